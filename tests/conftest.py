"""What tests of several folders share: a tiny network and a run of two epochs."""

from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = str(ROOT / 'configs' / 'quickstart' / 'kfmsd_digits.py')
IMAGES, TEST_IMAGES = 64, 51  # the test images do not divide among two processes


@pytest.fixture(scope='session')
def tiny_backbone():
    """ResNet18 of the paper with 4 instead of 64 channels."""
    return dict(arch='resnet18', base_channels=4, stem_channels=4)


@pytest.fixture(scope='session')
def tiny_options():
    """Changes with which a quickstart config trains two epochs of four steps."""
    return {
        'model.backbone.base_channels': 4,
        'model.backbone.stem_channels': 4,
        'train_dataloader.batch_size': 16,
        'train_dataloader.dataset.subset': IMAGES,
        'val_dataloader.batch_size': 20,
        'val_dataloader.dataset.subset': TEST_IMAGES,
        'test_dataloader.batch_size': 20,
        'test_dataloader.dataset.subset': TEST_IMAGES,
        'train_cfg.max_epochs': 2,
        'train_cfg.val_interval': 1,
        'log_level': 'WARNING',
    }


@dataclass(frozen=True)
class Trained:
    """A finished run: config, its changes, folder, last checkpoint and what ``train`` returned."""

    config: str
    options: dict
    work_dir: Path
    checkpoint: Path
    metrics: dict


@pytest.fixture(scope='session')
def trained(tmp_path_factory, tiny_options):
    """KFMSD after two epochs on some of the digits. Tests must not write into its folder."""
    from mmkdfuse import train

    work_dir = tmp_path_factory.mktemp('trained')
    metrics = train(QUICKSTART, work_dir=work_dir, cfg_options=tiny_options)
    return Trained(QUICKSTART, tiny_options, work_dir, work_dir / 'epoch_2.pth', metrics)
