"""The embedded dataset: counts, ranges, a fixed and disjoint split."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from mmkdfuse.registry import DATASETS


@pytest.fixture(scope='module')
def splits():
    return [DATASETS.build({'type': 'Digits', 'split': split}) for split in ('train', 'test')]


def test_shapes_ranges_and_counts(splits):
    train, test = splits
    assert (len(train), len(test)) == (1437, 360)
    for data in splits:
        images = data.store.images
        assert images.shape[1:] == (3, 32, 32) and images.dtype == torch.uint8
        assert torch.equal(images[:, 0], images[:, 1]) and torch.equal(images[:, 0], images[:, 2])
        assert data.metainfo['classes'] == tuple('0123456789')
        # Background 0 everywhere; bilinear corners keep a stroke's 16 near 255.
        assert images.min() == 0 and images.max() >= 250
    assert np.bincount(test.get_gt_labels()).tolist() == [36] * 10
    counts = np.bincount(train.get_gt_labels()) + 36
    assert counts.tolist() == np.bincount(load_digits().target).tolist()


def test_split_is_disjoint_and_complete(splits):
    train, test = ({image.numpy().tobytes() for image in d.store.images} for d in splits)
    assert not train & test
    assert len(train) + len(test) == len({image.tobytes() for image in load_digits().images})


def test_labels_belong_to_their_images(splits):
    digits = load_digits()
    # 4x4 block means undo the enlargement up to its smoothing.
    for data in splits:
        small = data.store.images[:, 0].float().unfold(1, 4, 4).unfold(2, 4, 4).mean((3, 4))
        source = torch.tensor(digits.images).float() * (255 / 16)
        nearest = torch.cdist(small.flatten(1), source.flatten(1)).argmin(1)
        assert np.array_equal(digits.target[nearest.numpy()], data.get_gt_labels())


def test_split_does_not_change(splits):
    again = DATASETS.build({'type': 'Digits', 'split': 'test'})
    assert torch.equal(again.store.images, splits[1].store.images)
    assert again.get_gt_labels()[:12].tolist() == [4, 5, 6, 9, 4, 7, 8, 9, 9, 6, 9, 9]


def test_unknown_split():
    with pytest.raises(ValueError, match="split='val'"):
        DATASETS.build({'type': 'Digits', 'split': 'val'})
