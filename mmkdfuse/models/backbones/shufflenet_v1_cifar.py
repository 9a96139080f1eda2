"""ShuffleNetV1 for small images."""

from collections.abc import Sequence

import torch
from mmpretrain.models.utils import channel_shuffle
from torch import Tensor, nn

from mmkdfuse.models.backbones.arguments import THREE_STAGES, check_arguments
from mmkdfuse.models.backbones.staged import StagedBackbone
from mmkdfuse.models.layers import DepthwiseConv2d, conv_bn_relu
from mmkdfuse.registry import MODELS

GROUPS = 3


class ShuffleUnit(nn.Module):
    """Grouped 1x1, BN, ReLU, shuffle, depthwise 3x3, BN, ReLU, grouped 1x1, BN; joined, ReLU.

    mmpretrain's ``ShuffleUnit`` has no ReLU behind the depthwise convolution and a wider bottleneck
    where it strides.

    Args:
        in_channels: Channels entering.
        out_channels: Channels leaving. A unit of stride 2 computes ``out_channels - in_channels``
            of them and appends the average-pooled input; one of stride 1 adds the input.
        stride: 1 or 2.
        first_groups: Groups of the first convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, first_groups: int = GROUPS
    ) -> None:
        super().__init__()
        computed = out_channels if stride == 1 else out_channels - in_channels
        width = computed // 4
        self.conv1 = nn.Conv2d(in_channels, width, 1, groups=first_groups, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = DepthwiseConv2d(width, (stride, stride), (1, 1))
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, computed, 1, groups=GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(computed)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None
        self.first_groups = first_groups

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = channel_shuffle(out, self.first_groups)
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        joined = out + x if self.pool is None else torch.cat([out, self.pool(x)], dim=1)
        return self.relu(joined)


@MODELS.register_module()
class ShuffleNetV1_CIFAR(StagedBackbone):  # noqa: N801 (mmpretrain's way of naming)
    """ShuffleNetV1 (Zhang et al., 2018) of three groups, for small images.

    Stem: 1x1 convolution of stride 1 to 24 channels, BN, ReLU. Three stages of 4, 8 and 4 units end
    in 240, 480 and 960 channels, each halving the image: 16x16, 8x8 and 4x4 for 32x32.

    Convolutions have PyTorch's initialisation, as in the reference network.

    Args:
        base_channels: Channels of the stem; the stages have 10, 20 and 40 times as many. Divisible
            by 12, for the groups.
        out_indices: Stages whose maps are returned, ascending, from 0 to 2.
        init_cfg: Initialisation of mmengine.

    Raises:
        ValueError: If ``base_channels`` or ``out_indices`` is out of range.

    Example:
        >>> network = ShuffleNetV1_CIFAR(base_channels=12)
        >>> [tuple(x.shape[1:]) for x in network(torch.zeros(1, 3, 32, 32))]
        [(120, 16, 16), (240, 8, 8), (480, 4, 4)]
    """

    def __init__(
        self,
        base_channels: int = 24,
        out_indices: Sequence[int] = THREE_STAGES,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        base, self.out_indices = check_arguments(
            'ShuffleNetV1_CIFAR', base_channels, out_indices, THREE_STAGES, multiple_of=12
        )
        self.stem = nn.Sequential(*conv_bn_relu(3, base))
        self.layer1 = _stage(base, 10 * base, 4, first_groups=1)
        self.layer2 = _stage(10 * base, 20 * base, 8)
        self.layer3 = _stage(20 * base, 40 * base, 4)


def _stage(
    in_channels: int, out_channels: int, units: int, first_groups: int = GROUPS
) -> nn.Sequential:
    rest = [ShuffleUnit(out_channels, out_channels) for _ in range(units - 1)]
    return nn.Sequential(ShuffleUnit(in_channels, out_channels, 2, first_groups), *rest)
