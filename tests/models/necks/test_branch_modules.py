"""Geometry, layers and size of the branches' modules."""

import pytest
import torch
from torch import nn

from mmkdfuse.models.necks.branch_modules import BranchModule, Downsample, conv_geometry


def out_size(size, stride, padding):
    return (size + 2 * padding - 3) // stride + 1


def test_geometry_comes_as_near_as_any_3x3_convolution():
    for size in range(1, 81):
        reachable = {
            out_size(size, stride, padding)
            for stride in range(1, size + 1)
            for padding in (0, 1)
            if size + 2 * padding >= 3
        }
        for target in range(1, size + 1):
            miss = abs(out_size(size, *conv_geometry(size, target)) - target)
            assert miss == min(abs(candidate - target) for candidate in reachable), (size, target)


@pytest.mark.parametrize('stride', [1, 2, 3, 4, 8])
def test_geometry_hits_what_strided_layers_make_of_any_size(stride):
    for size in range(1, 257):
        target = -(-size // stride)  # 3x3 with padding 1, 1x1, 7x7 with padding 3
        assert out_size(size, *conv_geometry(size, target)) == target


@pytest.mark.parametrize(
    ('size', 'target', 'geometry'),
    [(32, 16, (2, 1)), (33, 17, (2, 1)), (33, 16, (2, 0)), (8, 8, (1, 1)), (32, 8, (4, 1))],
)
def test_geometry_of_common_cases(size, target, geometry):
    assert conv_geometry(size, target) == geometry


@pytest.mark.parametrize('size', [(8, 8), (9, 7), (5, 1), (1, 1), (32, 15)])
@pytest.mark.parametrize('divisor', [1, 2, 4])
def test_downsampling_gives_exactly_the_next_stages_shape(size, divisor):
    target = tuple(-(-side // divisor) for side in size)
    module = Downsample((4, *size), (6, *target)).eval()
    assert module(torch.randn(1, 4, *size)).shape == (1, 6, *target)


def test_downsampling_has_other_strides_along_each_axis():
    module = Downsample((4, 8, 8), (4, 8, 4)).eval()
    assert module(torch.randn(1, 4, 8, 8)).shape == (1, 4, 8, 4)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_downsampling_is_two_depthwise_separable_convolutions():
    module = Downsample((4, 8, 8), (6, 4, 4))
    kinds = [type(layer).__name__ for layer in module.layers]
    assert kinds == ['DepthwiseConv2d', 'Conv2d', 'BatchNorm2d', 'ReLU'] * 2
    assert parameters(module) == (9 * 4 + 4 * 4 + 2 * 4) + (9 * 4 + 4 * 6 + 2 * 6)


def test_bottleneck_is_a_quarter_as_wide_as_its_output():
    module = BranchModule((6, 8, 8), (16, 4, 4))
    convolutions = [layer for layer in module.layers if isinstance(layer, nn.Conv2d)]
    assert [layer.kernel_size[0] for layer in convolutions] == [1, 3, 1]
    assert [layer.stride for layer in convolutions] == [(1, 1), (2, 2), (1, 1)]
    assert all(layer.bias is None for layer in convolutions)
    assert parameters(module) == (6 * 4 + 2 * 4) + (9 * 4 * 4 + 2 * 4) + (4 * 16 + 2 * 16)


def test_width_of_the_bottleneck_can_be_set():
    module = BranchModule((6, 8, 8), (16, 4, 4), width=5)
    assert parameters(module) == (6 * 5 + 2 * 5) + (9 * 5 * 5 + 2 * 5) + (5 * 16 + 2 * 16)


@pytest.mark.parametrize('kind', ['bottleneck', 'sepconv'])
@pytest.mark.parametrize(
    ('target', 'expected'), [((4, 4), (4, 4)), ((8, 4), (8, 4)), ((8, 8), (8, 8)), ((2, 2), (4, 4))]
)
def test_modules_halve_every_axis_that_shrinks(kind, target, expected):
    module = BranchModule((6, 8, 8), (16, *target), kind=kind).eval()
    assert module(torch.randn(2, 6, 8, 8)).shape == (2, 16, *expected)


@pytest.mark.parametrize('kind', ['bottleneck', 'sepconv'])
def test_modules_take_a_single_pixel(kind):
    module = BranchModule((6, 1, 1), (16, 1, 1), kind=kind).eval()
    assert module(torch.randn(2, 6, 1, 1)).shape == (2, 16, 1, 1)


def test_unknown_kind_is_named():
    with pytest.raises(ValueError, match="module='dense' must be 'bottleneck' or 'sepconv'"):
        BranchModule((4, 8, 8), (4, 4, 4), kind='dense')


def test_initialisation_is_that_of_the_reference_networks():
    torch.manual_seed(0)
    module = BranchModule((64, 8, 8), (128, 4, 4))
    module.init_weights()
    for layer in module.layers:
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.out_channels * layer.kernel_size[0] ** 2
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all() and (layer.bias == 0).all()
