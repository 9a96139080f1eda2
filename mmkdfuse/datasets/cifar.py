"""CIFAR-10 and CIFAR-100 from the official Python files, in memory."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from mmpretrain import datasets as official_datasets

from mmkdfuse.datasets.disk_cache import Arrays, cache_name, fingerprint
from mmkdfuse.datasets.download import ensure_extracted
from mmkdfuse.datasets.image_store import StoreDataset
from mmkdfuse.datasets.once_per_node import first_on_node
from mmkdfuse.registry import DATASETS


def _reconstruct(subtype: type, shape: tuple, dtype: Any) -> np.ndarray:
    """Function in numpy's pickles that makes an empty array before its state is set."""
    if subtype is not np.ndarray:
        raise pickle.UnpicklingError(f'{subtype} is not a plain array')
    return np.ndarray.__new__(np.ndarray, shape, dtype)


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler of plain containers and numpy arrays; it refuses every other name in the file."""

    _allowed = {
        ('numpy.core.multiarray', '_reconstruct'): _reconstruct,
        ('numpy._core.multiarray', '_reconstruct'): _reconstruct,
        ('numpy', 'ndarray'): np.ndarray,
        ('numpy', 'dtype'): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f'{module}.{name} is not allowed in a data file') from None


def read_batch(path: Path, md5: str) -> dict:
    """One official batch file, checked before it is unpickled from the bytes that were checked.

    Raises:
        RuntimeError: The file is missing, damaged, or holds more than arrays and plain values.
    """
    again = f'delete the folder {path.parent} to have it downloaded again'
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RuntimeError(f'cannot read {path} ({error}): {again}') from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise RuntimeError(f'{path} has MD5 {found}, not {md5}: {again}')
    try:
        return _ArrayUnpickler(io.BytesIO(content), encoding='latin1').load()
    except pickle.UnpicklingError as error:
        raise RuntimeError(f'{path} is refused: {error}') from error


@DATASETS.register_module()
class CIFAR10(StoreDataset):
    """`CIFAR-10 <https://www.cs.toronto.edu/~kriz/cifar.html>`_, 50,000 + 10,000 images, 32x32.

    URL, checksums and class names are mmpretrain's. ``mmpretrain.CIFAR10`` remains the dataset
    that yields single samples through a pipeline.

    Args:
        data_root: Folder that holds (or receives) ``cifar-10-batches-py``.
        split: ``'train'`` or ``'test'``.
        download: Download the archive if the folder is missing.
        cache: Folder of a cache on disk; None reads the official files each time (about a second).
        **kwargs: ``num_classes``, ``subset``, ``subset_seed``, ``test_mode`` of
            :class:`StoreDataset`.

    Raises:
        ValueError: Unknown split.
        RuntimeError: The data is missing and cannot be downloaded, or a checksum is wrong.

    Example:
        >>> CIFAR10('data/cifar10', split='val')
        Traceback (most recent call last):
        ValueError: split='val' must be 'train' or 'test'
    """

    official: Any = official_datasets.CIFAR10
    label_key = 'labels'

    def __init__(
        self,
        data_root: str,
        split: str = 'train',
        download: bool = True,
        cache: str | None = None,
        **kwargs: Any,
    ) -> None:
        if split not in ('train', 'test'):
            raise ValueError(f"split={split!r} must be 'train' or 'test'")
        official = self.official
        folder = first_on_node(
            lambda: ensure_extracted(
                root=Path(data_root),
                folder=official.base_folder,
                url=official.url,
                filename=official.filename,
                md5=official.tgz_md5,
                download_missing=download,
            )
        )
        batches = official.train_list if split == 'train' else official.test_list
        super().__init__(
            classes=official.METAINFO['classes'],
            read=lambda: self._read(folder, batches),
            cache=cache,
            cache_name=cache_name(type(self).__name__, split, folder),
            cache_key=lambda: fingerprint([folder / name for name, _ in batches]),
            **kwargs,
        )

    def _read(self, folder: Path, batches: list) -> Arrays:
        entries = [read_batch(folder / name, md5) for name, md5 in batches]
        images = np.concatenate([entry['data'] for entry in entries]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([entry[self.label_key] for entry in entries])
        return images, labels


@DATASETS.register_module()
class CIFAR100(CIFAR10):
    """CIFAR-100 with its 100 fine classes; folder ``cifar-100-python``. See :class:`CIFAR10`.

    Example:
        >>> CIFAR100('no/such/folder', download=False)
        Traceback (most recent call last):
        RuntimeError: no/such/folder/cifar-100-python does not exist and download=False: set ...
    """

    official: Any = official_datasets.CIFAR100
    label_key = 'fine_labels'
