"""scikit-learn's handwritten digits, the dataset that needs no file and no network."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmkdfuse.datasets.disk_cache import Arrays
from mmkdfuse.datasets.image_store import StoreDataset
from mmkdfuse.registry import DATASETS

_TEST_PER_CLASS = 36
_SIDE = 32


def _read(split: str) -> Arrays:
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    # RandomState's stream is frozen by numpy, unlike that of newer generators.
    shuffled = np.random.RandomState(0).permutation(len(digits.target))
    test = np.concatenate(
        [shuffled[digits.target[shuffled] == label][:_TEST_PER_CLASS] for label in range(10)]
    )
    in_test = np.zeros(len(digits.target), dtype=bool)
    in_test[test] = True
    rows = np.flatnonzero(in_test if split == 'test' else ~in_test)
    grey = np.rint(digits.images[rows] * (255 / 16)).astype(np.uint8)
    large = [
        np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))
        for image in grey
    ]
    images = np.repeat(np.stack(large)[:, None], 3, axis=1)
    return images, digits.target[rows]


@DATASETS.register_module()
class Digits(StoreDataset):
    """scikit-learn's 1,797 real digits of 8x8 pixels, as 32x32 RGB uint8.

    The grey levels 0..16 become 0..255, the size 32x32 by bilinear interpolation, the three
    channels are equal. The split is fixed: 36 digits of every class, drawn once with seed 0, are
    the test set (360), the others (138 to 147 per class, 1,437) the training set. Do not flip
    digits.

    Args:
        split: ``'train'`` or ``'test'``.
        **kwargs: ``num_classes``, ``subset``, ``subset_seed``, ``test_mode`` of
            :class:`StoreDataset`.

    Raises:
        ValueError: Unknown split.

    Example:
        >>> digits = Digits('test', subset=4)
        >>> digits.__getitems__([0, 1])['inputs'].shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(self, split: str = 'train', **kwargs: Any) -> None:
        if split not in ('train', 'test'):
            raise ValueError(f"split={split!r} must be 'train' or 'test'")
        super().__init__(
            classes=[str(k) for k in range(10)],
            read=lambda: _read(split),
            cache_name='',
            cache_key=str,
            **kwargs,
        )
