"""MobileNetV1 for small images."""

from collections.abc import Sequence

from torch import nn

from mmkdfuse.models.backbones.arguments import ALL_STAGES, check_arguments
from mmkdfuse.models.backbones.staged import StagedBackbone
from mmkdfuse.models.layers import DepthwiseConv2d
from mmkdfuse.registry import MODELS


class Separable(nn.Sequential):
    """Depthwise 3x3 without bias, BN, ReLU, pointwise 1x1 with bias, BN, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(
            DepthwiseConv2d(in_channels, (stride, stride), (1, 1)),
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
        )
        self.pointwise = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


@MODELS.register_module()
class MobileNetV1(StagedBackbone):
    """MobileNetV1 (Howard et al., 2017) for small images.

    Stem: 3x3 convolution of stride 1 to 32 channels and a separable block to 64. Stages 1 to 4 end
    in 128, 256, 512 and 1024 channels after 2, 2, 6 and 2 separable blocks, the first of which has
    stride 2; the stem belongs to stage 1. KFMSD (paper 000) does not print its cuts: these are "cut
    B", with which a 32x32 image gives 16x16, 8x8, 4x4 and 2x2.

    The baseline that the paper prints for CIFAR-100 lies 7 points above the reference network's
    published accuracy, so its authors probably reduced the image less. ``first_stride=1`` is that
    reading, the default is the reference.

    Convolutions have PyTorch's initialisation, as in the reference network.

    Args:
        base_channels: Channels of the stem's first convolution; all widths are multiples of it.
        first_stride: Stride of the block that opens stage 1: 2, or 1 for maps of twice the size.
        out_indices: Stages whose maps are returned, ascending, from 0 to 3.
        init_cfg: Initialisation of mmengine.

    Raises:
        ValueError: If ``base_channels``, ``first_stride`` or ``out_indices`` is out of range.

    Example:
        >>> import torch
        >>> network = MobileNetV1(base_channels=4)
        >>> [tuple(x.shape[1:]) for x in network(torch.zeros(1, 3, 32, 32))]
        [(16, 16, 16), (32, 8, 8), (64, 4, 4), (128, 2, 2)]
    """

    def __init__(
        self,
        base_channels: int = 32,
        first_stride: int = 2,
        out_indices: Sequence[int] = ALL_STAGES,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        base, self.out_indices = check_arguments('MobileNetV1', base_channels, out_indices)
        if first_stride not in (1, 2):
            raise ValueError(f'MobileNetV1: first_stride={first_stride!r} must be 1 or 2.')
        self.stem = nn.Sequential(
            nn.Conv2d(3, base, 3, padding=1, bias=False),
            nn.BatchNorm2d(base),
            nn.ReLU(inplace=True),
            Separable(base, 2 * base),
        )
        self.layer1 = _stage(2 * base, 4 * base, 2, first_stride)
        self.layer2 = _stage(4 * base, 8 * base, 2)
        self.layer3 = _stage(8 * base, 16 * base, 6)
        self.layer4 = _stage(16 * base, 32 * base, 2)


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int = 2) -> nn.Sequential:
    rest = [Separable(out_channels, out_channels) for _ in range(blocks - 1)]
    return nn.Sequential(Separable(in_channels, out_channels, stride), *rest)
