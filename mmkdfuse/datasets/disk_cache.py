"""Decoded images kept on disk as plain ``.npy`` files and memory-mapped when used again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

_FORMAT = 1

Arrays = tuple[np.ndarray, np.ndarray]


def fingerprint(files: Iterable[Path], *extra: object) -> str:
    """A hash that changes with any file's path, size or modification time, or with ``extra``."""
    digest = hashlib.sha256(json.dumps([_FORMAT, *extra], default=str).encode())
    for file in files:
        stat = os.stat(file)
        digest.update(f'{file}\0{stat.st_size}\0{stat.st_mtime_ns}\n'.encode())
    return digest.hexdigest()[:16]


def cache_name(kind: str, split: str, source: Path, *options: object) -> str:
    """A file name that tells data sets, splits, source folders and options apart."""
    digest = hashlib.sha256(json.dumps([str(source.resolve()), *options], default=str).encode())
    return f'{kind}-{split}-{digest.hexdigest()[:8]}'


def _read(entry: Path) -> Arrays | None:
    try:
        # Copy-on-write pages: torch wants writable memory, the file stays untouched and shared.
        images = np.load(entry / 'images.npy', mmap_mode='c', allow_pickle=False)
        labels = np.load(entry / 'labels.npy', allow_pickle=False)
    except (OSError, ValueError):
        return None
    return (images, labels) if len(images) == len(labels) else None


def cached(folder: Path, name: str, key: str, build: Callable[[], Arrays]) -> Arrays:
    """Images and labels from the cache, built and stored first where the key is not there yet.

    Args:
        folder: Where entries lie; made if missing.
        name: What is cached (one data set, split and size); a new key replaces its old entry.
        key: From :func:`fingerprint`; another key means that the source changed.
        build: Returns uint8 (N, 3, H, W) and int64 (N,).

    Returns:
        Images, memory-mapped, and labels.

    Raises:
        RuntimeError: The folder cannot be written.
    """
    entry = folder / f'{name}-{key}'
    found = _read(entry)
    if found is not None:
        return found
    images, labels = build()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f'.{name}-', dir=folder))
        try:
            np.save(scratch / 'images.npy', images, allow_pickle=False)
            np.save(scratch / 'labels.npy', labels, allow_pickle=False)
            scratch.chmod(0o755)
            # A damaged entry of this key would be in the way; older keys are of no use any more.
            for stale in folder.glob(f'{name}-*'):
                if stale != entry or _read(entry) is None:
                    shutil.rmtree(stale, ignore_errors=True)
            if not entry.exists():
                os.replace(scratch, entry)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise RuntimeError(
            f'cannot write the image cache {folder} ({error}): set cache= to a writable folder or '
            'to None'
        ) from error
    return _read(entry) or (images, labels)
