"""Files that options name: data sets in miniature and trained networks."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmpretrain import datasets as official_datasets
from options.values import BASES, NETWORK, OTHER_TEACHER, SIDE, TEACHER, K
from PIL import Image

from mmkdfuse.models import BranchedClassifier, Classifier
from mmkdfuse.registry import MODELS


def write_files(folder: Path, patch: Any) -> None:
    """Write everything that a value names.

    Args:
        folder: Where to.
        patch: A ``pytest.MonkeyPatch``, for the checksums of the data sets.
    """
    write_networks(folder)
    write_images(folder / 'images')
    write_tiny(folder / 'tiny' / 'tiny-imagenet-200')
    for name, labels in (('CIFAR10', 'labels'), ('CIFAR100', 'fine_labels')):
        write_cifar(folder / name, getattr(official_datasets, name), labels, patch)


def write_networks(folder: Path) -> None:
    """Write weights of the networks that others start from or learn from."""
    for network, name in ((TEACHER, 'teacher'), (OTHER_TEACHER, 'other_teacher')):
        torch.save(Classifier(plain_of(network), K, SIDE).state_dict(), folder / f'{name}.pth')
    torch.save(Classifier(NETWORK, K, SIDE).state_dict(), folder / 'network.pth')
    torch.save(BranchedClassifier(plain_of(TEACHER), K, SIDE).state_dict(), folder / 'branched.pth')
    folded = MODELS.build(dict(type='FoldedClassifier', **BASES['FoldedClassifier']))
    torch.save(folded.state_dict(), folder / 'folded.pth')


def plain_of(teacher: dict) -> dict:
    """A teacher's network without its file."""
    return {key: value for key, value in teacher.items() if key != 'checkpoint'}


def write_image(path: Path, value: int, side: int) -> None:
    """Write an image of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (side, side), (value,) * 3).save(path, format='PNG')


def write_images(folder: Path) -> None:
    """Write a folder of images; the split ``odd`` has another class."""
    splits = (('train', 'bee', 0), ('val', 'bee', 50), ('odd', 'cow', 90))
    for split, second, start in splits:
        for label, name in enumerate(('ant', second)):
            for number in range(3):
                write_image(folder / split / name / f'{number}.png', 10 * label + number + start, 8)


def write_tiny(folder: Path) -> None:
    """Write Tiny-ImageNet with three classes."""
    names = ('n03', 'n01', 'n02')
    lines = []
    for label, name in enumerate(names):
        for number in range(4):
            image = folder / 'train' / name / 'images' / f'{name}_{number}.JPEG'
            write_image(image, 10 * label + number, 64)
            image = folder / 'val' / 'images' / f'val_{label}_{number}.JPEG'
            write_image(image, 100 + 10 * label + number, 64)
            lines.append(f'{image.name}\t{name}\t0\t0\t9\t9\n')
    (folder / 'val' / 'val_annotations.txt').write_text(''.join(lines))
    (folder / 'wnids.txt').write_text('\n'.join(names) + '\n')


def write_cifar(folder: Path, official: Any, labels: str, patch: Any) -> None:
    """Write CIFAR with six images a file."""
    folder = folder / official.base_folder
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for attribute in ('train_list', 'test_list'):
        entries = []
        for file, _ in getattr(official, attribute):
            data = generator.integers(0, 256, (6, 3072), dtype=np.uint8)
            raw = pickle.dumps({'data': data, labels: generator.integers(0, 10, 6).tolist()})
            (folder / file).write_bytes(raw)
            entries.append([file, hashlib.md5(raw).hexdigest()])
        patch.setattr(official, attribute, entries)
