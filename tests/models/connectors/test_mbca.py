"""MBCA: cost of all pairs of the paper, resizing, mean of the branches, bad arguments."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmkdfuse.models import MBCAConnector

ALL = ('bottleneck', 'sandglass', 'sandglass_plus')
# C_s, C_t, H_s | M MACs + 4 per batch-norm output of the three branches at H_s and of MBCA at 8x8 |
# M parameters of the same: what the released code has.
TABLE = """
wrn40_1/wrn40_2| 64 128 8| 3.211 15.319 25.887 44.417| 0.0497 0.2385 0.4029 0.6911
resnet8x4/resnet32x4| 256 256 8| 13.763 79.921 122.028 215.712| 0.2140 1.2470 1.9036 3.3646
resnet110/resnet110x2| 64 128 8| 3.211 15.319 25.887 44.417| 0.0497 0.2385 0.4029 0.6911
resnet116/resnet110x2| 64 128 8| 3.211 15.319 25.887 44.417| 0.0497 0.2385 0.4029 0.6911
vgg8/resnet32x4| 512 256 4| 3.965 29.417 39.944 293.306| 0.2468 1.8368 2.4934 4.5770
resnet8x4/wrn40_2| 256 128 8| 3.998 29.475 40.042 73.515| 0.0620 0.4596 0.6241 1.1457
shufflenet_v2/resnet32x4| 464 256 4| 3.867 27.648 38.175 278.757| 0.2406 1.7262 2.3828 4.3497
shufflenet_v1/resnet32x4| 960 256 4| 4.882 45.933 56.459 429.097| 0.3041 2.8690 3.5256 6.6988
wrn16_2/resnet32x4| 128 256 8| 12.714 61.047 103.154 176.914| 0.1976 0.9521 1.6087 2.7584
shufflenet_v2/resnet110x2| 464 128 4| 1.212 11.203 13.844 105.038| 0.0753 0.6993 0.8637 1.6383
mobilenet_v2/wrn40_2| 160 128 2| 0.225 1.400 2.060 58.966| 0.0558 0.3491 0.5135 0.9184
mobilenet_v2_x2/resnet32x4| 320 256 2| 0.893 5.585 8.217 235.110| 0.2222 1.3944 2.0511 3.6677
wrn40_2/resnet32x4| 128 256 8| 12.714 61.047 103.154 176.914| 0.1976 0.9521 1.6087 2.7584
shufflenet_v2_x1_5/resnet32x4| 704 256 4| 4.358 36.495 47.022 351.502| 0.2714 2.2792 2.9358 5.4863
"""
PAIRS = {}
for line in TABLE.strip().splitlines():
    name, *columns = line.split('|')
    PAIRS[name.strip()] = [[float(number) for number in column.split()] for column in columns]


def cost(connector, shape, size):
    """Convolution MACs + 4 per element of a batch norm's output, in millions."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        if isinstance(module, nn.Conv2d):
            kernel = module.kernel_size[0] * module.kernel_size[1]
            total += output.numel() * module.in_channels * kernel // module.groups
        elif isinstance(module, nn.BatchNorm2d):
            total += 4 * output.numel()

    for module in connector.modules():
        module.register_forward_hook(count)
    connector(torch.zeros(1, *shape, device='meta'), size)
    return total / 1e6


@pytest.mark.parametrize('pair', PAIRS)
@pytest.mark.parametrize('row', [*range(3), 'all'])
def test_cost_of_the_pairs_of_the_paper(pair, row):
    shape, costs, parameters = PAIRS[pair]
    c_s, c_t, side = map(int, shape)
    index = 3 if row == 'all' else row
    with torch.device('meta'):
        connector = MBCAConnector(c_s, c_t, branches=ALL if row == 'all' else ALL[row : row + 1])
    # Single branches are printed at the student's size, all three at the teacher's.
    size = (8, 8) if row == 'all' else (side, side)
    assert cost(connector.eval(), (c_s, side, side), size) == pytest.approx(costs[index], abs=6e-4)
    found = sum(p.numel() for p in connector.parameters()) / 1e6
    assert found == pytest.approx(parameters[index], abs=6e-5)


def test_it_is_the_mean_of_its_branches():
    connector, x = MBCAConnector(3, 8).eval(), torch.randn(2, 3, 5, 5)
    single = [branch(x) for branch in connector.branches.values()]
    torch.testing.assert_close(connector(x, (5, 5)), sum(single) / 3)
    assert (connector(x, (5, 5)) >= 0).all()


@pytest.mark.parametrize('mode', ['nearest', 'bilinear'])
def test_smaller_maps_are_interpolated(mode):
    connector, x = MBCAConnector(3, 8, upsample=mode).eval(), torch.randn(2, 3, 2, 3)
    expected = F.interpolate(x, (8, 6), mode=mode)
    assert torch.equal(connector.resize(x, (8, 6)), expected)
    assert connector(x, (8, 6)).shape == (2, 8, 8, 6)


def test_nearest_repeats_pixels():
    x = torch.arange(4.0).reshape(1, 1, 2, 2)
    expected = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert torch.equal(MBCAConnector(1, 2).resize(x, (4, 4)), expected)


@pytest.mark.parametrize('upsample', ['nearest', 'bilinear', 'transposed', None])
def test_larger_maps_are_pooled_and_equal_ones_stay(upsample):
    connector, x = MBCAConnector(3, 8, upsample=upsample), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(connector.resize(x, (4, 4)), F.avg_pool2d(x, 2))
    assert connector.resize(x, (8, 8)) is x


def test_without_upsampling_the_student_keeps_its_size():
    connector, x = MBCAConnector(3, 8, upsample=None), torch.randn(2, 3, 4, 4)
    assert connector(x, (8, 8)).shape == (2, 8, 4, 4)


@pytest.mark.parametrize(('scale', 'steps'), [(1, 0), (2, 1), (4, 2)])
def test_transposed_convolutions_double(scale, steps):
    connector = MBCAConnector(3, 8, upsample='transposed', scale=scale)
    assert len(connector.doublings) == steps
    assert connector(torch.randn(2, 3, 2, 2), (2 * scale, 2 * scale)).shape[2:] == (2 * scale,) * 2
    other = connector(torch.randn(2, 3, 3, 3), (3 * scale + 1, 3 * scale + 1))
    assert other.shape[2:] == (3 * scale + 1,) * 2


@pytest.mark.parametrize('branches', [ALL, ('sandglass',), ('pointwise',)])
def test_every_parameter_gets_a_gradient(branches):
    connector = MBCAConnector(3, 8, branches=branches, upsample='transposed', scale=2)
    connector(torch.randn(2, 3, 2, 2), (4, 4)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in connector.parameters())


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        (dict(reduction=0), 'reduction=0 must be from 1 to out_channels=8'),
        (dict(reduction=9), 'reduction=9 must be from 1'),
        (dict(branches=()), r'branches=\(\) must be different names from'),
        (dict(branches=('sandglass', 'sandglass')), 'must be different names'),
        (dict(branches=('hourglass',)), "'hourglass'.* must be different names"),
        (dict(upsample='cubic'), "upsample='cubic' must be one of"),
        (dict(upsample='transposed', scale=3), 'scale=3 must be a power of two'),
        (dict(upsample='transposed', scale=2.5), 'scale=2.5 must be a power of two'),
    ],
)
def test_refused_arguments_are_named(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        MBCAConnector(3, 8, **changes)
