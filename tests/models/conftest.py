"""The scope of this package, and tiny students and teachers with their checkpoints."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import DefaultScope
from tiny_networks import STUDENT, TEACHER, K

from mmkdfuse.models import Classifier
from mmkdfuse.registry import MODELS


@pytest.fixture(autouse=True)
def _scope():
    """Types without prefix are looked up here first, whatever other tests left as default scope."""
    with DefaultScope.overwrite_default_scope('mmkdfuse'):
        yield


@pytest.fixture
def build():
    """Builds a distiller of the tiny networks."""

    def make(method, student=STUDENT, teacher=TEACHER, **changes):
        torch.manual_seed(0)
        cfg = dict(type=method, student=student, teacher=teacher, num_classes=K, image_size=32)
        return MODELS.build({**cfg, **changes})

    return make


@pytest.fixture
def batch():
    """Four images and their labels."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 3, 32, 32, generator=generator)
    return SimpleNamespace(images=images, labels=torch.tensor([0, 3, 4, 3]))


@pytest.fixture
def checkpoint(tmp_path):
    """Writes the checkpoint of a network, and returns how to name it as a teacher."""

    def write(arch, seed=3, num_classes=K):
        torch.manual_seed(seed)
        path = tmp_path / f'teacher{seed}.pth'
        model = Classifier(arch, num_classes, 32)
        torch.nn.init.normal_(model.head.fc.bias)
        torch.save(dict(meta={}, state_dict=model.state_dict()), path)
        return dict(**arch, checkpoint=str(path))

    return write
