"""A user's folder with methods of their own, beside the checkout, and what they learn from."""

import functools
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Enough for more than twice the accuracy of guessing, which teachers must have.
TEACHING = {
    'train_dataloader.dataset.subset': 512,
    'optim_wrapper.optimizer.lr': 0.05,
    'param_scheduler': None,
    'train_cfg.val_interval': 2,
}


@dataclass(frozen=True)
class Project:
    """A folder with one module and one config a method.

    Attributes:
        folder: Where they are.
        options: Changes with which every config trains two epochs of four steps.
    """

    folder: Path
    options: dict

    def config(self, method):
        return self.folder / f'{method}_config.py'

    def changed(self, method, changes):
        """Read a config and change it."""
        cfg = Config.fromfile(self.config(method))
        cfg.merge_from_dict(changes)
        return cfg


@dataclass(frozen=True)
class Run:
    """A finished run: config, its changes, folder, and what ``train`` returned."""

    config: Path
    options: dict
    work_dir: Path
    metrics: dict


@pytest.fixture(scope='package')
def project(tmp_path_factory, tiny_options):
    """The folder; what its modules register is gone again behind these tests."""
    from mmkdfuse.registry import MODELS

    desk = tmp_path_factory.mktemp('desk')
    (desk / 'mmkdfuse').symlink_to(ROOT)
    folder = shutil.copytree(HERE / 'methods', desk / 'project')
    options = {key: value for key, value in tiny_options.items() if not key.startswith('model.')}
    options |= {'default_hooks.logger.interval': 1, 'log_processor': dict(window_size=1)}
    registered = set(MODELS.module_dict)
    sys.path.insert(0, str(folder))
    yield Project(folder, options)
    sys.path.remove(str(folder))
    for path in folder.glob('*.py'):
        sys.modules.pop(path.stem, None)
    for name in set(MODELS.module_dict) - registered:
        del MODELS.module_dict[name]


@pytest.fixture(scope='package')
def teacher_of(project, tmp_path_factory):
    """File of a method's teacher: the quickstart's network, or one with branches."""
    import mmkdfuse

    @functools.cache
    def train(branched):
        config, changes = 'quickstart/baseline_digits', {}
        if branched:
            config = project.config('rotations')
            changes = {
                'model.teacher': None,
                'model.losses.1.weight': 0,
                'model.backbone.base_channels': 8,
            }
        work_dir = tmp_path_factory.mktemp('teacher')
        options = {**project.options, **TEACHING, **changes}
        mmkdfuse.train(config, work_dir=work_dir, cfg_options=options, preflight=False)
        return str(work_dir / 'epoch_2.pth')

    return lambda method: train(method == 'rotations')


@pytest.fixture(scope='package')
def run_of(project, teacher_of, tmp_path_factory):
    """Checks and trains a method, once. Tests must not write into its folder."""
    import mmkdfuse

    @functools.cache
    def train(method):
        config, work_dir = project.config(method), tmp_path_factory.mktemp(method)
        options = {**project.options, 'model.teacher.checkpoint': teacher_of(method)}
        metrics = mmkdfuse.train(config, work_dir=work_dir, cfg_options=options)
        return Run(config, options, work_dir, metrics)

    return train


@pytest.fixture
def build(project, teacher_of):
    """Builds a method's model with its teacher's weights, in eval mode."""
    import mmkdfuse

    def build_method(method):
        options = {'model.teacher.checkpoint': teacher_of(method)}
        model = mmkdfuse.load(project.config(method), cfg_options=options)
        model.init_weights()
        return model

    return build_method


@pytest.fixture
def images():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels():
    return torch.tensor([3, 0, 9, 9])
