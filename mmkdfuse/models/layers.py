"""Convolutions that backbones, necks and connectors share."""

import torch
from torch import Tensor, nn

KERNEL = 3


def conv_bn_relu(
    in_channels: int,
    out_channels: int,
    kernel: int | tuple[int, int] = 1,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
) -> list[nn.Module]:
    """Convolution without bias, batch norm, ReLU."""
    return [
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]


class DepthwiseConv2d(nn.Conv2d):
    """A 3x3 convolution of every channel by itself, without bias."""

    def __init__(self, channels: int, stride: tuple[int, int], padding: tuple[int, int]) -> None:
        super().__init__(channels, channels, KERNEL, stride, padding, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; under autocast on the CPU in float32, where bf16 is several times slower."""
        if x.device.type != 'cpu':
            return super().forward(x)
        with torch.autocast('cpu', enabled=False):
            return super().forward(x.to(self.weight.dtype))


def separable_conv_bn_relu(
    in_channels: int,
    out_channels: int,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (1, 1),
) -> list[nn.Module]:
    """Depthwise 3x3, pointwise, batch norm, ReLU."""
    return [
        DepthwiseConv2d(in_channels, stride, padding),
        *conv_bn_relu(in_channels, out_channels),
    ]
