"""SqueezeNet for small images."""

from collections.abc import Sequence

import torch
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn

from mmkdfuse.models.backbones.arguments import ALL_STAGES, check_arguments
from mmkdfuse.registry import MODELS


def _conv_bn_relu(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class Fire(nn.Module):
    """A 1x1 convolution to few channels, then 1x1 and 3x3 side by side; BN and ReLU after each.

    Args:
        in_channels: Channels entering.
        squeeze_channels: s, channels in between; 8 s leave, half from either convolution.
    """

    def __init__(self, in_channels: int, squeeze_channels: int) -> None:
        super().__init__()
        self.squeeze = _conv_bn_relu(in_channels, squeeze_channels, 1)
        self.expand_1x1 = _conv_bn_relu(squeeze_channels, 4 * squeeze_channels, 1)
        self.expand_3x3 = _conv_bn_relu(squeeze_channels, 4 * squeeze_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, 8 s, H, W)."""
        x = self.squeeze(x)
        return torch.cat([self.expand_1x1(x), self.expand_3x3(x)], dim=1)


@MODELS.register_module()
class SqueezeNet(BaseBackbone):
    """SqueezeNet (Iandola et al., 2016) with batch norm and simple bypass, for small images.

    Stem: 3x3 convolution of stride 1, BN, ReLU, max-pool. The input is added to the output of the
    fire modules 3, 5 and 7. Stage 1 is the stem, fire2 and fire3; stage 2 is fire4, a max-pool and
    fire5; stage 3 is fire6, fire7, fire8 and a max-pool; stage 4 is fire9, of the same size. A
    32x32 image gives 128x16x16, 256x8x8, 512x4x4 and 512x4x4. The published network's classifier, a
    1x1 convolution and the mean of its map, equals the mean and a linear layer.

    Every layer has a bias and PyTorch's initialisation, as in the reference network.

    Args:
        base_channels: Channels that fire2 squeezes to; all widths are multiples of it.
        out_indices: Stages whose maps are returned, ascending, from 0 to 3.
        init_cfg: Initialisation of mmengine.

    Raises:
        ValueError: If ``base_channels`` or ``out_indices`` is out of range.

    Example:
        >>> network = SqueezeNet(base_channels=2)
        >>> [tuple(x.shape[1:]) for x in network(torch.zeros(1, 3, 32, 32))]
        [(16, 16, 16), (32, 8, 8), (64, 4, 4), (64, 4, 4)]
    """

    def __init__(
        self,
        base_channels: int = 16,
        out_indices: Sequence[int] = ALL_STAGES,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        b, self.out_indices = check_arguments('SqueezeNet', base_channels, out_indices)
        self.pool = nn.MaxPool2d(2)
        self.stem = _conv_bn_relu(3, 6 * b, 3)
        self.fire2, self.fire3 = Fire(6 * b, b), Fire(8 * b, b)
        self.fire4, self.fire5 = Fire(8 * b, 2 * b), Fire(16 * b, 2 * b)
        self.fire6, self.fire7 = Fire(16 * b, 3 * b), Fire(24 * b, 3 * b)
        self.fire8, self.fire9 = Fire(24 * b, 4 * b), Fire(32 * b, 4 * b)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the stage maps chosen by ``out_indices``, each (N, C, H, W)."""
        x = self.fire2(self.pool(self.stem(x)))
        first = x + self.fire3(x)
        x = self.pool(self.fire4(first))
        second = x + self.fire5(x)
        x = self.fire6(second)
        third = self.pool(self.fire8(x + self.fire7(x)))
        maps = first, second, third, self.fire9(third)
        return tuple(maps[index] for index in self.out_indices)
