"""Decoded images on disk as plain ``.npy`` files, memory-mapped, larger than memory if need be.

Writing holds one chunk of images in memory, a batch reads the pages of its own images, and all
processes of a machine share the pages that were read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import mmap
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
from filelock import FileLock
from mmengine.logging import print_log
from numpy.lib import format as npy

_FORMAT = 1
# Python names the flag from 3.13 on.
_NORESERVE = getattr(mmap, 'MAP_NORESERVE', 0x4000 if sys.platform == 'linux' else 0)

Arrays = tuple[np.ndarray, np.ndarray]


class ImageSource(Protocol):
    """Images that come in chunks because memory may not hold them all."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, 3, H, W)."""

    def chunks(self) -> Iterator[np.ndarray]:
        """uint8 (n, 3, H, W) in order, N in total; each is valid until the next."""


def fingerprint(files: Iterable[Path], *extra: object) -> str:
    """A hash that changes with any file's path, size or modification time, or with ``extra``."""
    digest = hashlib.sha256(json.dumps([_FORMAT, *extra], default=str).encode())
    for file in files:
        stat = os.stat(file)
        digest.update(f'{file}\0{stat.st_size}\0{stat.st_mtime_ns}\n'.encode())
    return digest.hexdigest()[:16]


def cache_name(kind: str, split: str, source: Path, *options: object) -> str:
    """A file name that tells datasets, splits, source folders and options apart."""
    digest = hashlib.sha256(json.dumps([str(source.resolve()), *options], default=str).encode())
    return f'{kind}-{split}-{digest.hexdigest()[:8]}'


def cached(
    folder: Path,
    name: str,
    key: str,
    build: Callable[[], tuple[np.ndarray | ImageSource, np.ndarray]],
) -> Arrays:
    """Images and labels from the cache, built and stored first where the key is not there yet.

    Of several processes or runs that want the same entry one builds it, the others wait.

    Args:
        folder: Folder of the entries; made if missing.
        name: Name of the entry (one dataset, split and size); a new key replaces its old entry.
        key: From :func:`fingerprint`; another key means that the source changed.
        build: Returns uint8 (N, 3, H, W), at once or in chunks, and int64 (N,).

    Returns:
        Images, memory-mapped, and labels. Writing to the images changes this process's copy.

    Raises:
        RuntimeError: The folder cannot be written, or images and labels differ in number.
    """
    entry = folder / f'{name}-{key}'
    found = _read(entry)
    if found is not None:
        return found
    with _blame(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f'.{name}.lock').acquire()
    with lock:
        found = _read(entry)
        if found is None:
            images, labels = build()
            with _blame(folder):
                _write(entry, name, images, labels)
            found = _read(entry)
    if found is None:
        raise RuntimeError(
            f'the image cache {entry} cannot be read back: {tuple(images.shape)} images and '
            f'{labels.shape} labels were to be written, uint8 (N, 3, H, W) and one label each'
        )
    return found


@contextmanager
def _blame(folder: Path) -> Iterator[None]:
    """Name the folder in an error of the operating system."""
    try:
        yield
    except OSError as error:
        raise RuntimeError(
            f'cannot write the image cache {folder} ({error}): set cache= to a writable folder or '
            'to False'
        ) from error


def _read(entry: Path) -> Arrays | None:
    """The entry, or None if it is not there or not complete."""
    try:
        images = _map(entry / 'images.npy')
        labels = np.load(entry / 'labels.npy', allow_pickle=False)
    except (OSError, ValueError):
        return None
    return (images, labels) if labels.shape == images.shape[:1] else None


def _map(path: Path) -> np.ndarray:
    """Map the images of a file of uint8 (N, 3, H, W).

    torch wants writable memory, hence pages that are copied when written to, without touching the
    file. For such a mapping numpy (``mmap_mode='c'``) has the kernel reserve memory for copies of
    all pages, which fails for files larger than memory; here nothing is reserved.

    Raises:
        ValueError: Something else is in the file, or less than its header says.
    """
    with open(path, 'rb') as file:
        if npy.read_magic(file) != (1, 0):
            raise ValueError(f'{path} has another version than 1.0')
        shape, fortran_order, dtype = npy.read_array_header_1_0(file)
        if dtype != np.uint8 or fortran_order or len(shape) != 4:
            raise ValueError(f'{path} holds {dtype} {shape}, not uint8 (N, 3, H, W)')
        start = file.tell()
        pages = mmap.mmap(
            file.fileno(),
            0,
            flags=mmap.MAP_PRIVATE | _NORESERVE,
            prot=mmap.PROT_READ | mmap.PROT_WRITE,
        )
    return np.frombuffer(pages, np.uint8, count=math.prod(shape), offset=start).reshape(shape)


def _write(entry: Path, name: str, images: np.ndarray | ImageSource, labels: np.ndarray) -> None:
    """Put a complete entry in its place; the lock of this name is held."""
    folder = entry.parent
    # Damaged, of another key, or left behind by a build that was killed.
    for pattern in (f'{name}-*', f'.{name}-*'):
        for stale in folder.glob(pattern):
            shutil.rmtree(stale, ignore_errors=True)
    needed, free = math.prod(images.shape), shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(errno.ENOSPC, f'{_gib(needed)} are needed and {_gib(free)} free')
    if not isinstance(images, np.ndarray):
        print_log(
            f'decoding {images.shape[0]:,} images ({_gib(needed)}) into {entry}, once',
            logger='current',
        )
    scratch = Path(tempfile.mkdtemp(prefix=f'.{name}-', dir=folder))
    try:
        _save_images(scratch / 'images.npy', images)
        np.save(scratch / 'labels.npy', labels, allow_pickle=False)
        scratch.chmod(0o755)
        os.replace(scratch, entry)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _save_images(path: Path, images: np.ndarray | ImageSource) -> None:
    """Write a ``.npy`` file chunk by chunk."""
    chunks = [images] if isinstance(images, np.ndarray) else images.chunks()
    header = dict(descr='|u1', fortran_order=False, shape=tuple(images.shape))
    with open(path, 'wb') as file:
        npy.write_array_header_1_0(file, header)
        for chunk in chunks:
            file.write(chunk.astype(np.uint8, order='C', casting='safe', copy=False).data)
        # Before the folder gets its name: after a power cut it would hold a file of zeros.
        file.flush()
        os.fsync(file.fileno())


def _gib(size: int) -> str:
    return f'{size / 2**30:.1f} GiB'
