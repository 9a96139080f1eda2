"""Decoding image files of one size into one array, in threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import numpy as np

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.tiff', '.webp')
_CHUNK = 256
_DEEP_MODES = ('I', 'F', 'I;16', 'I;16B', 'I;16L', 'I;16N')


def _decode(path: Path, resize: tuple[int, int] | None) -> np.ndarray:
    """One image as uint8 (H, W, 3) RGB, resized to (h, w) if given."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode in _DEEP_MODES:
                raise ValueError(f'mode {image.mode} has more than 8 bits per channel')
            rgb = image.convert('RGB')
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f'cannot read image {path}: {error}') from error
    if resize is not None and rgb.size != (resize[1], resize[0]):
        rgb = rgb.resize((resize[1], resize[0]), Image.Resampling.BILINEAR)
    return np.asarray(rgb)


def _refuse_memory(n: int, height: int, width: int) -> None:
    needed = n * 3 * height * width
    physical = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    if needed > physical:
        raise ValueError(
            f'{n} images of {height}x{width} need {needed / 2**30:.0f} GiB of memory but the '
            f'machine has {physical / 2**30:.0f}: set resize= or use a file pipeline of mmpretrain '
            '(mmpretrain.CustomDataset) instead'
        )


def _refuse_size(path: Path, found: np.ndarray, first: Path, expected: tuple) -> NoReturn:
    raise ValueError(
        f'{path} is {found.shape[0]}x{found.shape[1]} (height x width) but {first} is '
        f'{expected[0]}x{expected[1]}: images in memory need one size, so set resize= or use a '
        'file pipeline of mmpretrain (mmpretrain.CustomDataset) instead'
    )


def read_images(
    paths: Sequence[Path], resize: tuple[int, int] | None = None, threads: int | None = None
) -> np.ndarray:
    """Decode images in the given order.

    Grey, palette and transparent images become RGB (transparency is dropped).

    Args:
        paths: Image files, at least one.
        resize: (height, width) in pixels, bilinear; None keeps the size, which must be common.
        threads: Number of threads; None takes one per processor, 16 at most.

    Returns:
        uint8 (N, 3, H, W), contiguous.

    Raises:
        ValueError: An image cannot be read, has more than 8 bits per channel, differs in size from
            the first, or all together exceed the machine's memory. The first such file is named.
    """
    first = _decode(paths[0], resize)
    height, width = first.shape[:2]
    _refuse_memory(len(paths), height, width)
    images = np.empty((len(paths), 3, height, width), dtype=np.uint8)

    def fill(start: int) -> None:
        for row in range(start, min(start + _CHUNK, len(paths))):
            image = _decode(paths[row], resize)
            if image.shape != first.shape:
                _refuse_size(paths[row], image, paths[0], first.shape)
            images[row] = image.transpose(2, 0, 1)

    # fork() of the DataLoader workers comes later: no thread may outlive this block.
    with ThreadPoolExecutor(threads or min(16, os.cpu_count() or 1)) as pool:
        try:
            for _ in pool.map(fill, range(0, len(paths), _CHUNK)):
                pass
        except ValueError:
            pool.shutdown(cancel_futures=True)
            raise
    return images
