"""Decoding image files of one size, in threads, all at once or in chunks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import numpy as np

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.tiff', '.webp')
_PER_TASK = 64  # images that a thread decodes in one go
_CHUNK_BYTES = 2**26
_DEEP_MODES = ('I', 'F', 'I;16', 'I;16B', 'I;16L', 'I;16N')
_MEMORY_LIMITS = (  # of a container, cgroup v2 and v1
    '/sys/fs/cgroup/memory.max',
    '/sys/fs/cgroup/memory/memory.limit_in_bytes',
)


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


def machine_memory() -> int:
    """Bytes that all processes of this machine, or of this container, may hold together."""
    limits = [os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')]
    for path in _MEMORY_LIMITS:
        try:
            limits.append(int(Path(path).read_text()))
        except (OSError, ValueError):  # no such file, or 'max'
            continue
    return min(limits)


def _refuse_size(path: Path, found: np.ndarray, first: Path, expected: tuple) -> NoReturn:
    raise ValueError(
        f'{path} is {found.shape[0]}x{found.shape[1]} (height x width) but {first} is '
        f'{expected[0]}x{expected[1]}: images in memory need one size, so set resize= or use a '
        'file pipeline of mmpretrain (mmpretrain.CustomDataset) instead'
    )


class ImageFiles:
    """Image files of one size, decoded in the given order.

    Grey, palette and transparent images become RGB (transparency is dropped).

    Args:
        paths: Image files, at least one; the first one is decoded here.
        resize: (height, width) in pixels, bilinear; None keeps the size, which must be common.
        threads: Number of threads; None takes one per processor, 16 at most.

    Attributes:
        shape: (N, 3, H, W) of all images.
        nbytes: Bytes of all images, uint8.

    Raises:
        ValueError: Here or later, an image cannot be read, has more than 8 bits per channel, or
            differs in size from the first. The first such file is named.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        resize: tuple[int, int] | None = None,
        threads: int | None = None,
    ) -> None:
        self._paths, self._resize = paths, resize
        self._threads = threads or min(16, os.cpu_count() or 1)
        self._first = _decode(paths[0], resize).shape
        height, width = self._first[:2]
        self.shape = (len(paths), 3, height, width)
        self.nbytes = len(paths) * 3 * height * width

    def read(self) -> np.ndarray:
        """Decode all images.

        Returns:
            uint8 (N, 3, H, W), contiguous.

        Raises:
            ValueError: As for the class, or all together exceed the machine's memory.
        """
        memory = machine_memory()
        if self.nbytes > memory:
            n, _, height, width = self.shape
            raise ValueError(
                f'{n} images of {height}x{width} need {self.nbytes / 2**30:.0f} GiB of memory but '
                f'the machine has {memory / 2**30:.0f}: set cache=True to keep them on disk, '
                'resize= to shrink them, or use a file pipeline of mmpretrain '
                '(mmpretrain.CustomDataset) instead'
            )
        images = np.empty(self.shape, dtype=np.uint8)
        self._fill(images, 0)
        return images

    def chunks(self) -> Iterator[np.ndarray]:
        """Decode some images at a time, into one buffer of 64 MiB or one image.

        Yields:
            uint8 (n, 3, H, W), valid until the next.
        """
        n = len(self._paths)
        rows = min(n, max(1, _CHUNK_BYTES * n // self.nbytes))
        buffer = np.empty((rows, *self.shape[1:]), dtype=np.uint8)
        for start in range(0, n, rows):
            chunk = buffer[: n - start]
            self._fill(chunk, start)
            yield chunk

    def _fill(self, images: np.ndarray, start: int) -> None:
        """Decode ``len(images)`` files from number ``start`` on."""

        def fill(begin: int) -> None:
            for row in range(begin, min(begin + _PER_TASK, len(images))):
                path = self._paths[start + row]
                image = _decode(path, self._resize)
                if image.shape != self._first:
                    _refuse_size(path, image, self._paths[0], self._first)
                images[row] = image.transpose(2, 0, 1)

        # fork() of the DataLoader workers comes later: no thread may outlive this block.
        with ThreadPoolExecutor(self._threads) as pool:
            try:
                for _ in pool.map(fill, range(0, len(images), _PER_TASK)):
                    pass
            except ValueError:
                pool.shutdown(cancel_futures=True)
                raise


def read_images(
    paths: Sequence[Path], resize: tuple[int, int] | None = None, threads: int | None = None
) -> np.ndarray:
    """Decode all images of :class:`ImageFiles` into uint8 (N, 3, H, W).

    Raises:
        ValueError: See :meth:`ImageFiles.read`.
    """
    return ImageFiles(paths, resize, threads).read()
