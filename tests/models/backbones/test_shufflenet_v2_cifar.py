"""ShuffleNetV2."""

import torch
from torch import nn

from mmkdfuse.models.backbones import ShuffleNetV2_CIFAR
from mmkdfuse.models.backbones.shufflenet_v2_cifar import ShuffleUnit


def test_half_of_the_channels_passes_a_unit_untouched():
    unit = ShuffleUnit(8, 8)
    unit.eval()
    x = torch.randn(2, 8, 6, 6)
    out = unit(x)
    assert torch.equal(out[:, 0::2], x[:, :4])  # shuffled with the other half
    assert torch.equal(out[:, 1::2], unit.right(x[:, 4:]))


def test_a_unit_of_stride_two_computes_both_halves():
    unit = ShuffleUnit(6, 10, stride=2)
    unit.eval()
    x = torch.randn(2, 6, 8, 8)
    out = unit(x)
    assert out.shape == (2, 10, 4, 4)
    assert torch.equal(out[:, 0::2], unit.left(x)) and torch.equal(out[:, 1::2], unit.right(x))


def test_the_backbone_ends_before_the_last_convolution():
    net = ShuffleNetV2_CIFAR(base_channels=8)
    widths = {m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)}
    assert max(widths) == 24 and net(torch.zeros(2, 3, 32, 32))[-1].shape[1] == 32
