"""Any dataset laid out as one folder of images per class, in memory or memory-mapped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmkdfuse.datasets.disk_cache import Arrays, cache_name, cached, fingerprint
from mmkdfuse.datasets.image_files import EXTENSIONS, ImageFiles, machine_memory
from mmkdfuse.datasets.image_store import StoreDataset
from mmkdfuse.datasets.once_per_node import first_on_node
from mmkdfuse.registry import DATASETS


def class_folders(folder: Path) -> list[str]:
    """Sorted names of the folders in a folder, hidden ones left out.

    Raises:
        ValueError: The folder does not exist or holds no folder.
    """
    if not folder.is_dir():
        raise ValueError(f'the image folder {folder} does not exist: check data_root, data_prefix')
    names = sorted(
        entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != '.'
    )
    if not names:
        raise ValueError(
            f'{folder} holds no class folders: one folder of images per class is needed'
        )
    return names


def list_images(folder: Path) -> list[Path]:
    """Image files at any depth below a folder, sorted, hidden files left out.

    Raises:
        ValueError: There is none.
    """
    found = [
        os.path.join(parent, name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name[0] != '.' and name.lower().endswith(EXTENSIONS)
    ]
    if not found:
        raise ValueError(
            f'the class folder {folder} holds no image ({", ".join(EXTENSIONS)}): add images or '
            'remove the folder'
        )
    return [Path(name) for name in sorted(found)]


def check_same_classes(
    found: Sequence[str], expected: Sequence[str], where: str, whence: str
) -> None:
    """Raise a ValueError naming the classes that only one of two lists has."""
    missing = [name for name in expected if name not in set(found)]
    extra = [name for name in found if name not in set(expected)]
    if missing or extra:
        parts = [f'lacks {missing[:5]}'] * bool(missing) + [f'has also {extra[:5]}'] * bool(extra)
        raise ValueError(f'the classes in {where} differ from {whence}: it {" and ".join(parts)}')


def _size(resize: int | Sequence[int] | None) -> tuple[int, int] | None:
    if resize is None:
        return None
    size = (resize, resize) if isinstance(resize, int) else tuple(resize)
    if len(size) != 2 or any(not isinstance(side, int) or side < 1 for side in size):
        raise ValueError(f'resize={resize} must be a number of pixels or (height, width), >= 1')
    return size[0], size[1]


def _in_memory(files: ImageFiles, share: float) -> bool:
    """Whether every process of this machine can hold the images, all in a share of its memory.

    The whole memory counts, not the free part: all processes must come to one result, since they
    build a cache together.
    """
    # torchrun's; other launchers do not tell.
    processes = int(os.environ.get('LOCAL_WORLD_SIZE', 1))
    return files.nbytes * processes <= share * machine_memory()


@DATASETS.register_module()
class ImageFolder(StoreDataset):
    """Images in ``data_root/data_prefix/CLASS/**``; all of one size, or resized to one.

    Labels follow the sorted folder names, or ``classes``. Images that memory does not hold are
    decoded once into a file, from which a batch reads its own. For images of varying size use
    ``mmpretrain.CustomDataset`` with a file pipeline.

    Args:
        data_root: Folder of the dataset.
        data_prefix: Folder of the split in it.
        classes: Class names in label order; the folders must be exactly these.
        reference_prefix: Split whose class folders must be the same, if it exists: a class that is
            missing in one split would shift all labels behind it. None skips the check.
        resize: None, a side of a square in pixels, or (height, width); bilinear.
        cache: Folder of a memory-mapped cache on disk, True for ``data_root/.mmkdfuse_cache``,
            False for none. None is False where the images of all processes of the machine take no
            more than ``memory_share`` of its memory, else True. Machines of one run that differ in
            memory need True or False. A change of any file's name, size or time renews it.
        memory_share: 0..1, see ``cache``.
        **kwargs: ``num_classes``, ``subset``, ``subset_seed``, ``test_mode`` of
            :class:`StoreDataset`. A subset is held in memory.

    Raises:
        ValueError: A missing folder, an empty class folder, class lists that differ, a bad
            ``resize`` or ``memory_share``, an unreadable image, images of different size, or with
            ``cache=False`` more than memory holds.
        RuntimeError: The cache cannot be written.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ('cat', 'dog'):
        ...         path = Path(folder, 'train', name)
        ...         path.mkdir(parents=True)
        ...         Image.new('RGB', (8, 8)).save(path / '1.png')
        ...     images = ImageFolder(folder, cache=False)
        >>> images.CLASSES, len(images)
        (('cat', 'dog'), 2)
    """

    def __init__(
        self,
        data_root: str,
        data_prefix: str = 'train',
        classes: Sequence[str] | None = None,
        reference_prefix: str | None = 'train',
        resize: int | Sequence[int] | None = None,
        cache: str | bool | None = None,
        memory_share: float = 0.5,
        **kwargs: Any,
    ) -> None:
        size = _size(resize)
        if not 0 <= memory_share <= 1:
            raise ValueError(f'memory_share={memory_share} must lie in 0..1')
        if isinstance(classes, str):
            raise ValueError(f'classes={classes!r} must be a list of class names')
        folder = Path(data_root, data_prefix)
        names = class_folders(folder)
        if classes is not None:
            check_same_classes(names, classes, str(folder), 'the argument classes')
            names = list(classes)
        reference = Path(data_root, reference_prefix) if reference_prefix else folder
        if reference != folder and reference.is_dir():
            whence = f'{reference}, reference_prefix={reference_prefix!r}'
            check_same_classes(names, class_folders(reference), str(folder), whence)
        files = [list_images(folder / name) for name in names]
        paths = [path for members in files for path in members]

        def decode() -> tuple[ImageFiles, np.ndarray]:
            labels = np.repeat(np.arange(len(files)), [len(members) for members in files])
            return ImageFiles(paths, size), labels

        def read() -> Arrays:
            if not cache:
                images, labels = decode()
                if cache is False or _in_memory(images, memory_share):
                    return images.read(), labels
            own = Path(data_root, '.mmkdfuse_cache')
            target = Path(cache) if isinstance(cache, str) and cache else own
            name = cache_name(type(self).__name__, folder.name, folder, size)
            key = fingerprint(paths, names, size)
            return first_on_node(lambda: cached(target, name, key, decode))

        super().__init__(classes=names, read=read, cache_name='', cache_key=str, **kwargs)
