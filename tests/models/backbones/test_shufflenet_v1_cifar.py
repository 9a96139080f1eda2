"""ShuffleNetV1."""

import torch
from torch import nn

from mmkdfuse.models.backbones import ShuffleNetV1_CIFAR
from mmkdfuse.models.backbones.shufflenet_v1_cifar import ShuffleUnit


def silent(unit):
    nn.init.zeros_(unit.bn3.weight)
    unit.eval()
    return unit


def test_a_silent_unit_passes_the_activated_input():
    x = torch.randn(2, 12, 8, 8)
    assert torch.equal(silent(ShuffleUnit(12, 12))(x), x.relu())


def test_a_silent_unit_of_stride_two_appends_the_pooled_input():
    x = torch.rand(2, 12, 8, 8)
    out = silent(ShuffleUnit(12, 36, stride=2))(x)
    assert out.shape == (2, 36, 4, 4) and not out[:, :24].any()
    windows = x[:, :, 1:, 1:].unfold(2, 3, 2).unfold(3, 3, 2)  # those not at the border
    torch.testing.assert_close(out[:, 24:, 1:, 1:], windows.mean((4, 5)))


def test_only_the_first_convolution_of_all_units_is_not_grouped():
    units = [
        m for m in ShuffleNetV1_CIFAR(base_channels=12).modules() if isinstance(m, ShuffleUnit)
    ]
    assert [unit.conv1.groups for unit in units] == [1, *[3] * 15]
    assert {unit.conv3.groups for unit in units} == {3}
    assert all(unit.conv2.groups == unit.conv2.in_channels for unit in units)
