"""MobileNetV2."""

import pytest
import torch
from torch import nn

from mmkdfuse.models.backbones import MobileNetV2_CIFAR
from mmkdfuse.models.backbones.mobilenet_v2_cifar import InvertedResidual
from mmkdfuse.models.probe import probe_stages


def test_maps_are_not_activated():
    torch.manual_seed(0)
    net = MobileNetV2_CIFAR(base_channels=4)
    assert all((m < 0).any() for m in net(torch.randn(2, 3, 64, 64)))


@pytest.mark.parametrize(
    'arguments, adds', [((4, 4, 1), True), ((4, 4, 2), False), ((4, 6, 1), False)]
)
def test_the_input_is_added_where_the_shape_stays(arguments, adds):
    block = InvertedResidual(*arguments, expansion=2)
    block.eval()
    x = torch.randn(2, 4, 8, 8)
    rest = block(x) - block.conv(x)
    torch.testing.assert_close(rest, x if adds else torch.zeros_like(rest))


def test_seventeen_blocks_all_of_which_expand():
    net = MobileNetV2_CIFAR(base_channels=8)
    blocks = [m for m in net.modules() if isinstance(m, InvertedResidual)]
    assert len(blocks) == 17 and all(len(block.conv) == 8 for block in blocks)
    inner = [block.conv[3].in_channels // block.conv[0].in_channels for block in blocks]
    assert inner == [1, *[6] * 16]
    assert not any(isinstance(m, nn.ReLU6) for m in net.modules())


def test_five_strides():
    assert probe_stages(MobileNetV2_CIFAR(base_channels=4), 224) == [
        *((3, 112, 112), (4, 56, 56)),
        *((12, 28, 28), (40, 14, 14)),
    ]
