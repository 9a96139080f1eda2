"""The one in-memory store behind every dataset: uint8 images sliced as whole batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.registry import FUNCTIONS as ROOT_FUNCTIONS
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from mmkdfuse.datasets.disk_cache import Arrays, cached
from mmkdfuse.datasets.once_per_node import first_on_node
from mmkdfuse.registry import FUNCTIONS
from mmkdfuse.structures import TrainingSet


# The Runner looks a collate function up in the root registry only, whatever the default scope is.
@ROOT_FUNCTIONS.register_module()
@FUNCTIONS.register_module()
def identity_collate(batch: dict | list) -> dict:
    """Pass on a batch that the dataset sliced whole.

    A wrapper without ``__getitems__`` around the dataset makes the DataLoader fetch single
    samples; their list is stacked.
    """
    return default_collate(batch) if isinstance(batch, list) else batch


@dataclass(frozen=True)
class ImageStore:
    """Images of one size in memory.

    Attributes:
        images: uint8 (N, 3, H, W), RGB, contiguous.
        labels: int64 (N,), each in 0..len(classes)-1.
        indices: int64 (N,), position of every image in the full dataset.
        classes: Class names in label order.

    Raises:
        ValueError: A wrong shape or type, a label out of range, or no image.

    Example:
        >>> images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
        >>> store = ImageStore(images, torch.tensor([0, 1, 1, 0]), torch.arange(4), ('cat', 'dog'))
        >>> store.batch([3, 1])['labels']
        tensor([0, 1])
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        if self.images.dtype != torch.uint8 or len(shape) != 4 or shape[1] != 3 or 0 in shape:
            raise ValueError(
                f'images must be uint8 (N, 3, H, W) and not empty, not {self.images.dtype} {shape}'
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != shape[:1]:
            raise ValueError(
                f'labels must be int64 ({shape[0]},), one per image, not {self.labels.dtype} '
                f'{tuple(self.labels.shape)}'
            )
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.classes):
            raise ValueError(
                f'labels span {low}..{high} but {len(self.classes)} classes allow '
                f'0..{len(self.classes) - 1}'
            )

    @classmethod
    def from_arrays(
        cls, images: np.ndarray, labels: np.ndarray, classes: Sequence[str]
    ) -> ImageStore:
        """A store over uint8 (N, 3, H, W) and integer (N,) arrays, without a copy if contiguous."""
        return cls(
            images=torch.from_numpy(images).contiguous(),
            labels=torch.from_numpy(np.array(labels, dtype=np.int64)),
            indices=torch.arange(len(images)),
            classes=tuple(classes),
        )

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, positions: Sequence[int] | Tensor) -> dict[str, Tensor]:
        """``{'inputs', 'labels', 'indices'}`` of the images at these positions, in their order."""
        rows = torch.as_tensor(positions, dtype=torch.int64)
        return {
            'inputs': self.images.index_select(0, rows),
            'labels': self.labels.index_select(0, rows),
            'indices': self.indices.index_select(0, rows),
        }

    def subset(self, size: int, seed: int) -> ImageStore:
        """A random choice of images in their old order; ``indices`` keep the full set's numbers.

        Raises:
            ValueError: ``size`` is not in 1..N.
        """
        if not 1 <= size <= len(self):
            raise ValueError(f'subset={size} must lie in 1..{len(self)}, the number of images')
        chosen = np.random.default_rng(seed).choice(len(self), size, replace=False)
        rows = torch.from_numpy(np.sort(chosen))
        return ImageStore(
            images=self.images.index_select(0, rows),
            labels=self.labels.index_select(0, rows),
            indices=self.indices.index_select(0, rows),
            classes=self.classes,
        )


class StoreDataset(Dataset):
    """Base class of the in-memory datasets, which slice whole batches.

    It has ``__getitems__`` and mmengine's ``metainfo``. Use it with
    ``collate_fn=dict(type='identity_collate')`` and any sampler of positions. Batches hold the
    position in the full dataset under ``indices``, also of a subset, so that a sample is augmented
    alike in both.

    Args:
        classes: Class names in label order.
        read: Returns uint8 (N, 3, H, W) RGB and integer labels (N,); called once here.
        cache: Folder of a cache on disk, or None. The images are then memory-mapped.
        cache_name: Name of the entry, distinct for every source, split and size.
        cache_key: Returns a string that changes when the source does; called only with ``cache``.
        num_classes: Expected number of classes; None accepts any.
        subset: Keep a fixed random choice of this many images; None keeps all.
        subset_seed: Seed of that choice; nothing without ``subset``.
        test_mode: Kept as an attribute, as in mmpretrain's datasets; changes nothing here.

    Raises:
        ValueError: Another number of classes than ``num_classes``, a class named twice, a
            ``subset`` out of range, or images and labels that do not fit together.

    Example:
        >>> import numpy as np
        >>> def read():
        ...     return np.zeros((4, 3, 8, 8), np.uint8), np.array([0, 1, 1, 0])
        >>> dataset = StoreDataset(classes=('cat', 'dog'), read=read)
        >>> dataset.__getitems__([3, 1])['labels']
        tensor([0, 1])
    """

    def __init__(
        self,
        *,
        classes: Sequence[str],
        read: Callable[[], Arrays],
        cache: str | Path | None = None,
        cache_name: str = '',
        cache_key: Callable[[], str] = str,
        num_classes: int | None = None,
        subset: int | None = None,
        subset_seed: int = 0,
        test_mode: bool = False,
    ) -> None:
        if num_classes is not None and num_classes != len(classes):
            raise ValueError(
                f'{type(self).__name__} has {len(classes)} classes but num_classes={num_classes}'
            )
        if len(set(classes)) != len(classes):
            raise ValueError(f'{type(self).__name__} has a class name twice: {sorted(classes)}')
        if cache and not cache_name:
            raise ValueError(f'{type(self).__name__} has no cache on disk: remove cache={cache!r}')
        if cache:
            folder = Path(cache)
            arrays = first_on_node(lambda: cached(folder, cache_name, cache_key(), read))
        else:
            arrays = read()
        store = ImageStore.from_arrays(*arrays, classes=classes)
        self.full_length = len(store)
        self.store = store if subset is None else store.subset(subset, subset_seed)
        self.test_mode = test_mode

    @property
    def metainfo(self) -> dict:
        """``{'classes': names}``, as mmengine's hooks and metrics expect."""
        return {'classes': self.store.classes}

    @property
    def CLASSES(self) -> tuple[str, ...]:  # noqa: N802  (mmpretrain's name)
        """Class names in label order."""
        return self.store.classes

    @property
    def num_classes(self) -> int:
        """Number of classes, with or without images."""
        return len(self.store.classes)

    def training_set(self) -> TrainingSet:
        """Return the facts about these images that losses may use: the labels by index."""
        size = int(self.store.indices.max()) + 1
        labels = torch.full((size,), -1, dtype=torch.int64)
        labels[self.store.indices] = self.store.labels
        return TrainingSet(size, labels, self.num_classes)

    def get_gt_labels(self) -> np.ndarray:
        """All labels, int64 (N,)."""
        return self.store.labels.numpy()

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        """One sample: inputs uint8 (3, H, W), labels int64 (), indices int64 ()."""
        if not -len(self) <= position < len(self):
            raise IndexError(f'position {position} is outside a dataset of {len(self)} images')
        batch = self.store.batch([position % len(self)])
        return {key: value[0] for key, value in batch.items()}

    def __getitems__(self, positions: list[int]) -> dict[str, Tensor]:
        """A batch: inputs uint8 (N, 3, H, W), labels int64 (N,), indices int64 (N,)."""
        return self.store.batch(positions)

    def __repr__(self) -> str:
        n, c, h, w = self.store.images.shape
        return f'{type(self).__name__}({n} images {c}x{h}x{w}, {self.num_classes} classes)'
