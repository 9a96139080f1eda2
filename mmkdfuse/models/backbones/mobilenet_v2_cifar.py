"""MobileNetV2 for small images."""

from collections.abc import Sequence

from torch import Tensor, nn

from mmkdfuse.models.backbones.arguments import ALL_STAGES, check_arguments
from mmkdfuse.models.backbones.staged import KAIMING_FAN_OUT, StagedBackbone
from mmkdfuse.models.layers import DepthwiseConv2d, conv_bn_relu
from mmkdfuse.registry import MODELS


class InvertedResidual(nn.Module):
    """1x1, BN, ReLU, depthwise 3x3, BN, ReLU, 1x1, BN; the input is added if the shape is the same.

    Args:
        in_channels: Channels entering.
        out_channels: Channels leaving, without an activation.
        stride: 1 or 2.
        expansion: Channels in between, per channel entering.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = expansion * in_channels
        self.conv = nn.Sequential(
            *conv_bn_relu(in_channels, width),
            DepthwiseConv2d(width, (stride, stride), (1, 1)),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        return x + self.conv(x) if self.adds else self.conv(x)


@MODELS.register_module()
class MobileNetV2_CIFAR(StagedBackbone):  # noqa: N801 (mmpretrain's way of naming)
    """MobileNetV2 (Sandler et al., 2018) for small images, as in the code of CRD, SimKD and MFAKD.

    It differs from mmpretrain's: ReLU instead of ReLU6, widths without rounding to multiples of 8,
    an expanding convolution in the first block too, and stride 1 in the second group of blocks.

    Stem: 3x3 convolution of stride 2. Seven groups of 1, 2, 3, 4, 3, 3 and 1 blocks make the four
    stages (groups 1 and 2, group 3, groups 4 and 5, groups 6 and 7); they end in 3/4, 1, 3 and 10
    times the stem's channels, without an activation. A 32x32 image gives 16x16, 8x8, 4x4 and 2x2.

    The network's last convolution (1x1 to 1280 channels) is :class:`FinalConv`, no part of the
    backbone: MFAKD (paper 001) aligns the map before it.

    Args:
        base_channels: Channels of the stem, divisible by 4: 32, or 16 for half the width.
        out_indices: Stages whose maps are returned, ascending, from 0 to 3.
        init_cfg: Initialisation of mmengine.

    Raises:
        ValueError: If ``base_channels`` or ``out_indices`` is out of range.

    Example:
        >>> import torch
        >>> network = MobileNetV2_CIFAR(base_channels=4)
        >>> [tuple(x.shape[1:]) for x in network(torch.zeros(1, 3, 32, 32))]
        [(3, 16, 16), (4, 8, 8), (12, 4, 4), (40, 2, 2)]
    """

    def __init__(
        self,
        base_channels: int = 32,
        out_indices: Sequence[int] = ALL_STAGES,
        init_cfg: dict | list[dict] | None = KAIMING_FAN_OUT,
    ) -> None:
        super().__init__(init_cfg)
        stem, self.out_indices = check_arguments(
            'MobileNetV2_CIFAR', base_channels, out_indices, multiple_of=4
        )
        b = stem // 4
        self.stem = nn.Sequential(*conv_bn_relu(3, stem, 3, (2, 2), (1, 1)))
        self.layer1 = nn.Sequential(_group(stem, 2 * b, 1, 1, 1), _group(2 * b, 3 * b, 2, 1))
        self.layer2 = nn.Sequential(_group(3 * b, 4 * b, 3, 2))
        self.layer3 = nn.Sequential(_group(4 * b, 8 * b, 4, 2), _group(8 * b, 12 * b, 3, 1))
        self.layer4 = nn.Sequential(_group(12 * b, 20 * b, 3, 2), _group(20 * b, 40 * b, 1, 1))


def _group(
    in_channels: int, out_channels: int, blocks: int, stride: int, expansion: int = 6
) -> nn.Sequential:
    first = InvertedResidual(in_channels, out_channels, stride, expansion)
    rest = (InvertedResidual(out_channels, out_channels, 1, expansion) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)
