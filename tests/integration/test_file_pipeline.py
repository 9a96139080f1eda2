"""KFMSD on images of varying size through mmpretrain's own file pipeline."""

import numpy as np
from PIL import Image

import mmkdfuse
from mmkdfuse.engine.launch import load_config


def write_images(root, per_class: int) -> None:
    generator = np.random.default_rng(0)
    for label, name in enumerate(('dark', 'bright')):
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            size = (int(generator.integers(20, 40)), int(generator.integers(20, 40)), 3)
            pixels = generator.integers(100 * label, 100 * label + 100, size, dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f'{number}.png')


def loader(root, shuffle: bool) -> dict:
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='RandomResizedCrop', scale=24),
        dict(type='PackInputs'),
    ]
    return dict(
        batch_size=4,
        dataset=dict(type='CustomDataset', data_root=str(root), pipeline=pipeline),
        sampler=dict(type='DefaultSampler', shuffle=shuffle),
    )


def test_trains_and_scores_through_mmpretrains_pipeline(tmp_path):
    write_images(tmp_path / 'images', per_class=6)
    cfg = load_config('quickstart/kfmsd_digits')
    cfg.model.update(num_classes=2, image_size=24, backbone=dict(arch='resnet18', base_channels=4))
    cfg.model.backbone.stem_channels = 4
    cfg.data_preprocessor = dict(type='ClsDataPreprocessor', mean=[100] * 3, std=[60] * 3)
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'] = loader(tmp_path / 'images', shuffle=split == 'train')
    cfg.merge_from_dict({'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 1})

    metrics = mmkdfuse.train(cfg, work_dir=tmp_path / 'run')

    assert set(metrics) >= {'branch1/top1', 'branch4/top1', 'main/top1', 'ensemble/top1'}
    assert all(0 <= value <= 100 for value in metrics.values())
    again = mmkdfuse.test(cfg, tmp_path / 'run' / 'epoch_1.pth', work_dir=tmp_path / 'test')
    assert set(again) >= set(metrics)
