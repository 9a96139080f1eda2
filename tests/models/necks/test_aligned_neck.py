"""Sizes of the aligned map with and without a teacher at hand, and what follows it."""

import pytest
import torch
from torch import nn

from mmkdfuse.models import AlignedNeck

CONNECTOR = dict(type='MBCAConnector', branches=('pointwise',))


def neck(student=(3, 4, 4), teacher=(8, 8, 8), **kwargs):
    return AlignedNeck(student, teacher, kwargs.pop('connector', CONNECTOR), **kwargs).eval()


@pytest.mark.parametrize(
    ('student', 'teacher', 'side', 'expected'),
    [
        ((3, 4, 4), (8, 8, 8), 4, 8),  # the probed size
        ((3, 4, 4), (8, 8, 8), 7, 14),  # larger images
        ((3, 2, 2), (8, 8, 8), 2, 8),
        ((3, 8, 8), (8, 8, 8), 5, 5),
        ((3, 8, 8), (8, 4, 4), 8, 4),
        ((3, 8, 8), (8, 1, 1), 3, 1),  # never less than a pixel
        ((3, 3, 3), (8, 2, 2), 4, 3),  # 8 / 3 rounded
    ],
)
def test_without_a_teacher_the_ratio_of_the_probed_sizes_counts(student, teacher, side, expected):
    aligned = neck(student, teacher).align(torch.randn(2, 3, side, side))
    assert aligned.shape == (2, 8, expected, expected)


def test_heights_and_widths_count_apart():
    aligned = neck((3, 4, 2), (8, 8, 8)).align(torch.randn(2, 3, 4, 3))
    assert aligned.shape == (2, 8, 8, 12)


def test_the_size_that_is_given_counts_first():
    assert neck().align(torch.randn(2, 3, 4, 4), (6, 5)).shape == (2, 8, 6, 5)


def test_the_feature_is_the_mean_of_the_aligned_map():
    module, x = neck(), torch.randn(2, 3, 4, 4)
    (feature,) = module((torch.randn(2, 5, 9, 9), x))
    torch.testing.assert_close(feature, module.align(x).mean(dim=(2, 3)))


def test_what_the_teacher_has_before_its_classifier_follows():
    conv = dict(type='FinalConv', in_channels=8, out_channels=6)
    module, x = neck(teacher_neck=conv), torch.randn(2, 3, 4, 4)
    (expected,) = module.teacher_neck((module.align(x),))
    assert torch.equal(module((x,))[0], expected)
    assert expected.shape == (2, 6)


def test_channels_and_scale_are_filled_in():
    module = neck((3, 2, 2), connector=dict(type='MBCAConnector', upsample='transposed'))
    assert len(module.connector.doublings) == 2
    first = module.connector.branches['bottleneck'][0]
    assert isinstance(first, nn.Conv2d) and first.in_channels == 3
