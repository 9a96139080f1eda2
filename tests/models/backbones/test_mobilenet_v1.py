"""MobileNetV1."""

import pytest
from torch import nn

from mmkdfuse.models.backbones import MobileNetV1
from mmkdfuse.models.probe import probe_stages


def test_the_first_stride_can_be_left_out_without_other_weights():
    less, reference = MobileNetV1(base_channels=2, first_stride=1), MobileNetV1(base_channels=2)
    assert [shape[1] for shape in probe_stages(reference, 32)] == [16, 8, 4, 2]
    assert [shape[1] for shape in probe_stages(less, 32)] == [32, 16, 8, 4]
    less.load_state_dict(reference.state_dict(), strict=True)


def test_thirteen_blocks_of_a_depthwise_and_a_pointwise_convolution():
    convolutions = [m for m in MobileNetV1().modules() if isinstance(m, nn.Conv2d)]
    depthwise = [c for c in convolutions if c.groups > 1]
    pointwise = [c for c in convolutions if c.kernel_size == (1, 1)]
    assert len(convolutions) == 27 and len(depthwise) == len(pointwise) == 13
    assert all(c.groups == c.in_channels == c.out_channels for c in depthwise)
    assert all(c.bias is None for c in depthwise) and all(c.bias is not None for c in pointwise)
    widths = [64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    assert [c.out_channels for c in pointwise] == widths


@pytest.mark.parametrize('first_stride', [0, 3, None])
def test_other_strides_are_refused(first_stride):
    with pytest.raises(ValueError, match=f'first_stride={first_stride} must be 1 or 2'):
        MobileNetV1(first_stride=first_stride)
