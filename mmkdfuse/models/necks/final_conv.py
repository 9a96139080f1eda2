"""The convolution between a network's last stage and its classifier."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmkdfuse.registry import MODELS


@MODELS.register_module()
class FinalConv(BaseModule):
    """1x1 convolution, BN, ReLU and global average pooling of the last stage map.

    ShuffleNetV2 and MobileNetV2 widen their last map before they classify it. As a neck it belongs
    to the complete network; the map before it is distilled.

    Args:
        in_channels: Channels of the map; filled in by the classifier from a dry run.
        out_channels: Channels that the classifier gets.
        init_cfg: Initialisation of mmengine; default PyTorch's.

    Example:
        >>> import torch
        >>> FinalConv(in_channels=4, out_channels=8)([torch.zeros(2, 4, 2, 2)])[0].shape
        torch.Size([2, 8])
    """

    def __init__(
        self, in_channels: int, out_channels: int, init_cfg: dict | list[dict] | None = None
    ) -> None:
        super().__init__(init_cfg)
        self.out_channels = out_channels
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor]:
        """Return the one feature (N, out_channels) of the last map (N, in_channels, H, W)."""
        return (self.pool(self.relu(self.bn(self.conv(maps[-1])))).flatten(1),)
