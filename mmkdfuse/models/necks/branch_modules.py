"""Building blocks of the branches: downsampling module, module1/module2 (paper 000, Fig. 4)."""

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmkdfuse.models.layers import KERNEL, conv_bn_relu, separable_conv_bn_relu


def conv_geometry(size: int, target: int) -> tuple[int, int]:
    """Stride and padding with which a 3x3 convolution takes ``size`` pixels nearest to ``target``.

    The strides next to ``size / target`` are tried with padding 1 and 0, so that odd sizes and
    strides other than 2 come out exactly wherever a convolution can do it.
    """
    nearest = max(1, round(size / target))
    candidates = [
        (stride, padding)
        for stride in (nearest, max(1, nearest - 1), nearest + 1)
        for padding in (1, 0)
        if size + 2 * padding >= KERNEL
    ]

    def miss(geometry: tuple[int, int]) -> int:
        stride, padding = geometry
        return abs((size + 2 * padding - KERNEL) // stride + 1 - target)

    return min(candidates, key=miss)


class ConvChain(BaseModule):
    """A chain of layers with the reference initialisation (Kaiming fan-out, BN 1/0)."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__(
            init_cfg=[
                dict(type='Kaiming', layer='Conv2d', mode='fan_out', nonlinearity='relu'),
                dict(type='Constant', layer='BatchNorm2d', val=1, bias=0),
            ]
        )
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Downsample(ConvChain):
    """Two depthwise-separable convolutions that bring one stage's map to the next stage's shape.

    DW3x3 (strided), PW, BN, ReLU, DW3x3, PW, BN, ReLU. Stride and padding follow from the probed
    sizes.

    Args:
        in_shape: (C, H, W) of the stage.
        out_shape: (C, H, W) of the next stage.
    """

    def __init__(self, in_shape: tuple[int, int, int], out_shape: tuple[int, int, int]) -> None:
        sizes = zip(in_shape[1:], out_shape[1:], strict=True)
        geometry = [conv_geometry(size, target) for size, target in sizes]
        stride = (geometry[0][0], geometry[1][0])
        padding = (geometry[0][1], geometry[1][1])
        super().__init__(
            separable_conv_bn_relu(in_shape[0], in_shape[0], stride, padding)
            + separable_conv_bn_relu(in_shape[0], out_shape[0])
        )


class BranchModule(ConvChain):
    """module1 / module2: carries a branch from one stage's channels to the next stage's.

    ``kind='bottleneck'``: 1x1 -> 3x3 -> 1x1, each with BN and ReLU. ``kind='sepconv'``: the layers
    of :class:`Downsample`. Stride 2 along every axis on which the next stage is smaller, else 1.

    Args:
        in_shape: (C, H, W) entering.
        out_shape: (C, H, W) of the stage whose place it takes.
        kind: ``'bottleneck'`` or ``'sepconv'``.
        width: Inner channels of the bottleneck; default a quarter of the outgoing channels.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_shape: tuple[int, int, int],
        kind: str = 'bottleneck',
        width: int | None = None,
    ) -> None:
        in_channels, out_channels = in_shape[0], out_shape[0]
        stride = (2 if out_shape[1] < in_shape[1] else 1, 2 if out_shape[2] < in_shape[2] else 1)
        if kind == 'bottleneck':
            inner = width or max(1, out_channels // 4)
            layers = (
                conv_bn_relu(in_channels, inner)
                + conv_bn_relu(inner, inner, KERNEL, stride, (1, 1))
                + conv_bn_relu(inner, out_channels)
            )
        elif kind == 'sepconv':
            layers = separable_conv_bn_relu(
                in_channels, in_channels, stride
            ) + separable_conv_bn_relu(in_channels, out_channels)
        else:
            raise ValueError(f"KFMNeck: module={kind!r} must be 'bottleneck' or 'sepconv'.")
        super().__init__(layers)
