"""ShuffleNetV2 for small images."""

from collections.abc import Sequence

import torch
from mmpretrain.models.utils import channel_shuffle
from torch import Tensor, nn

from mmkdfuse.models.backbones.arguments import THREE_STAGES, check_arguments
from mmkdfuse.models.backbones.staged import StagedBackbone
from mmkdfuse.models.layers import DepthwiseConv2d, conv_bn_relu
from mmkdfuse.registry import MODELS

STEM_CHANNELS = 24


class ShuffleUnit(nn.Module):
    """Two halves of the channels side by side, then shuffled: the left one short, the right long.

    Right: 1x1, BN, ReLU, depthwise 3x3, BN, 1x1, BN, ReLU. With stride 1 the right one takes half
    of the input and the left one is the other half. With stride 2 both take all of it, and the left
    one is depthwise 3x3, BN, 1x1, BN, ReLU.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        half = out_channels // 2
        self.splits = stride == 1
        self.left: nn.Module = nn.Identity()
        if not self.splits:
            self.left = nn.Sequential(*_depthwise(in_channels, 2), *conv_bn_relu(in_channels, half))
        self.right = nn.Sequential(
            *conv_bn_relu(half if self.splits else in_channels, half),
            *_depthwise(half, stride),
            *conv_bn_relu(half, half),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        left, right = x.chunk(2, dim=1) if self.splits else (x, x)
        return channel_shuffle(torch.cat([self.left(left), self.right(right)], dim=1), 2)


@MODELS.register_module()
class ShuffleNetV2_CIFAR(StagedBackbone):  # noqa: N801 (mmpretrain's way of naming)
    """ShuffleNetV2 (Ma et al., 2018) for small images.

    Stem: 1x1 convolution of stride 1 to 24 channels, BN, ReLU. Three stages of 4, 8 and 4 units end
    in 116, 232 and 464 channels, each halving the image: 16x16, 8x8 and 4x4 for 32x32. The network
    of width 1.5 has 176, 352 and 704.

    The network's last convolution (1x1 to 1024 channels) is :class:`FinalConv`, no part of the
    backbone: MFAKD (paper 001) aligns the map before it.

    Convolutions have PyTorch's initialisation, as in the reference network.

    Args:
        base_channels: Channels of the first stage; the others have 2 and 4 times as many. Even.
        out_indices: Stages whose maps are returned, ascending, from 0 to 2.
        init_cfg: Initialisation of mmengine.

    Raises:
        ValueError: If ``base_channels`` or ``out_indices`` is out of range.

    Example:
        >>> network = ShuffleNetV2_CIFAR(base_channels=4)
        >>> [tuple(x.shape[1:]) for x in network(torch.zeros(1, 3, 32, 32))]
        [(4, 16, 16), (8, 8, 8), (16, 4, 4)]
    """

    def __init__(
        self,
        base_channels: int = 116,
        out_indices: Sequence[int] = THREE_STAGES,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        base, self.out_indices = check_arguments(
            'ShuffleNetV2_CIFAR', base_channels, out_indices, THREE_STAGES, multiple_of=2
        )
        self.stem = nn.Sequential(*conv_bn_relu(3, STEM_CHANNELS))
        self.layer1 = _stage(STEM_CHANNELS, base, 4)
        self.layer2 = _stage(base, 2 * base, 8)
        self.layer3 = _stage(2 * base, 4 * base, 4)


def _depthwise(channels: int, stride: int) -> list[nn.Module]:
    return [DepthwiseConv2d(channels, (stride, stride), (1, 1)), nn.BatchNorm2d(channels)]


def _stage(in_channels: int, out_channels: int, units: int) -> nn.Sequential:
    rest = [ShuffleUnit(out_channels, out_channels) for _ in range(units - 1)]
    return nn.Sequential(ShuffleUnit(in_channels, out_channels, stride=2), *rest)
