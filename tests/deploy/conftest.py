"""Small trained models of every kind."""

import pytest
import torch
from mmengine.config import Config

from mmkdfuse.engine.launch import build_model

SIZE, K = 32, 7
MEAN, STD = [125.0, 120.0, 110.0], [50.0, 55.0, 60.0]


@pytest.fixture
def images():
    return torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def make(tmp_path, tiny_backbone):
    """Writes the checkpoint of a model with random weights and statistics; returns all three."""

    def make_model(classes=None, **model):
        network = dict(num_classes=K, image_size=SIZE)
        if 'student' not in model:
            network['backbone'] = tiny_backbone
        cfg = Config(
            dict(
                default_scope='mmkdfuse',
                model={'type': 'KFMSD', **network, **model},
                data_preprocessor=dict(type='BatchPreprocessor', mean=MEAN, std=STD),
            )
        )
        torch.manual_seed(0)
        built = build_model(cfg)
        for name, buffer in built.named_buffers():
            if name.endswith('running_mean'):
                buffer.normal_(std=0.1)
            elif name.endswith('running_var'):
                buffer.uniform_(0.5, 2)
        checkpoint = tmp_path / 'weights.pth'
        meta = dict(dataset_meta=dict(classes=classes)) if classes else {}
        torch.save(dict(meta=meta, state_dict=built.state_dict()), checkpoint)
        built.eval()
        return built, cfg, checkpoint

    return make_model
