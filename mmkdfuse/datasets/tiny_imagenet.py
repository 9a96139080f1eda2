"""Tiny-ImageNet with the validation split its annotation file defines, in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mmkdfuse.datasets.disk_cache import Arrays, cache_name, fingerprint
from mmkdfuse.datasets.download import ensure_extracted
from mmkdfuse.datasets.image_files import read_images
from mmkdfuse.datasets.image_folder import list_images
from mmkdfuse.datasets.image_store import StoreDataset
from mmkdfuse.datasets.once_per_node import first_on_node
from mmkdfuse.registry import DATASETS


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding='utf-8')
    except OSError as error:
        raise ValueError(
            f'cannot read {path} ({error}): the official layout of Tiny-ImageNet is needed, so '
            f'delete the folder {path.parent} to have it unpacked again'
        ) from error
    return [line for line in text.splitlines() if line.strip()]


def _training_files(folder: Path, classes: list[str]) -> dict[str, list[Path]]:
    missing = [name for name in classes if not (folder / 'train' / name).is_dir()]
    if missing:
        raise ValueError(f'{folder / "train"} lacks the class folders {missing[:5]} of wnids.txt')
    return {name: list_images(folder / 'train' / name) for name in classes}


def _validation_files(folder: Path, classes: list[str]) -> dict[str, list[Path]]:
    """The images lie in one folder; only ``val_annotations.txt`` knows their classes."""
    annotations = folder / 'val' / 'val_annotations.txt'
    files: dict[str, list[Path]] = {name: [] for name in classes}
    seen: set[str] = set()
    for line in _lines(annotations):
        fields = line.split('\t')
        if len(fields) < 2 or fields[1] not in files:
            raise ValueError(f'{annotations} has a line without a class of wnids.txt: {line!r}')
        if fields[0] in seen:
            raise ValueError(f'{annotations} names {fields[0]} twice')
        seen.add(fields[0])
        files[fields[1]].append(folder / 'val' / 'images' / fields[0])
    return files


@DATASETS.register_module()
class TinyImageNet(StoreDataset):
    """Tiny-ImageNet: 200 classes, 500 training and 50 validation images each, 64x64.

    Labels follow ``wnids.txt``. The validation images lie in one folder without class folders, so a
    class-folder reader would take them for one class.

    Args:
        data_root: Folder that holds (or receives) ``tiny-imagenet-200``.
        split: ``'train'`` or ``'val'``; the test images have no labels.
        download: Download the archive if the folder is missing.
        cache: Folder of a cache on disk, True for ``data_root/.mmkdfuse_cache``, None or False for
            none.
        num_classes: Expected number of classes.
        per_class: Expected number of images of every class; None for 500 (train) or 50 (val).
        **kwargs: ``subset``, ``subset_seed``, ``test_mode`` of :class:`StoreDataset`.

    Raises:
        ValueError: Unknown split, a wrong number of classes or of images of a class, missing or
            contradictory annotations, an unreadable image.
        RuntimeError: The data is missing and cannot be downloaded, or the checksum is wrong.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     images = Path(folder, 'tiny-imagenet-200', 'train', 'n01443537', 'images')
        ...     images.mkdir(parents=True)
        ...     Image.new('RGB', (64, 64)).save(images / 'n01443537_0.JPEG')
        ...     _ = Path(folder, 'tiny-imagenet-200', 'wnids.txt').write_text('n01443537')
        ...     dataset = TinyImageNet(folder, num_classes=1, per_class=1)
        >>> dataset.CLASSES, len(dataset)
        (('n01443537',), 1)
    """

    url = 'http://cs231n.stanford.edu/tiny-imagenet-200.zip'
    filename = 'tiny-imagenet-200.zip'
    md5 = '90528d7ca1a48142e341f4ef8d21d0de'
    base_folder = 'tiny-imagenet-200'

    def __init__(
        self,
        data_root: str,
        split: str = 'train',
        download: bool = True,
        cache: str | bool | None = None,
        num_classes: int = 200,
        per_class: int | None = None,
        **kwargs: Any,
    ) -> None:
        if split not in ('train', 'val'):
            raise ValueError(f"split={split!r} must be 'train' or 'val' (test has no labels)")
        folder = first_on_node(
            lambda: ensure_extracted(
                root=Path(data_root),
                folder=self.base_folder,
                url=self.url,
                filename=self.filename,
                md5=self.md5,
                download_missing=download,
            )
        )
        classes = _lines(folder / 'wnids.txt')
        if len(set(classes)) != num_classes or len(classes) != num_classes:
            raise ValueError(
                f'{folder / "wnids.txt"} names {len(set(classes))} classes, not {num_classes} '
                '(num_classes)'
            )
        files = (_training_files if split == 'train' else _validation_files)(folder, classes)
        expected = (500 if split == 'train' else 50) if per_class is None else per_class
        for name, members in files.items():
            if len(members) != expected:
                raise ValueError(
                    f'class {name} of {folder} has {len(members)} {split} images, not {expected} '
                    '(per_class): the dataset is incomplete or was changed'
                )
        paths = [path for name in classes for path in files[name]]

        def read() -> Arrays:
            return read_images(paths), np.repeat(np.arange(len(classes)), expected)

        super().__init__(
            classes=classes,
            read=read,
            cache=Path(data_root, '.mmkdfuse_cache') if cache is True else cache or None,
            cache_name=cache_name(type(self).__name__, split, folder),
            cache_key=lambda: fingerprint(paths, classes),
            num_classes=num_classes,
            **kwargs,
        )
