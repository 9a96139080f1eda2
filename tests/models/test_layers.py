"""Convolutions that several parts share."""

import torch
from torch import nn

from mmkdfuse.models.layers import DepthwiseConv2d


def test_depthwise_convolution_sees_one_channel_at_a_time():
    layer = DepthwiseConv2d(3, (1, 1), (1, 1))
    maps = torch.randn(2, 3, 5, 5)
    expected = [
        nn.functional.conv2d(maps[:, c : c + 1], layer.weight[c : c + 1], padding=1)
        for c in range(3)
    ]
    torch.testing.assert_close(layer(maps), torch.cat(expected, dim=1))


def test_depthwise_convolution_stays_in_float32_under_autocast_on_the_cpu():
    layer, maps = DepthwiseConv2d(3, (2, 2), (1, 1)), torch.randn(2, 3, 5, 5)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        inside, of_half = layer(maps), layer(maps.bfloat16())
    assert torch.equal(inside, layer(maps))
    assert torch.equal(of_half, layer(maps.bfloat16().float()))
