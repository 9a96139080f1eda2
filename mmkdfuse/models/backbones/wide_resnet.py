"""Wide residual networks with pre-activation, for small images."""

from collections.abc import Sequence

from torch import Tensor, nn

from mmkdfuse.models.backbones.arguments import THREE_STAGES, check_arguments
from mmkdfuse.models.backbones.staged import KAIMING_FAN_OUT, StagedBackbone
from mmkdfuse.registry import MODELS


class PreActivationBlock(nn.Module):
    """BN, ReLU, 3x3, BN, ReLU, 3x3, added to the input; nothing follows the sum.

    Where the number of channels changes, the first BN and ReLU also precede a 1x1 convolution
    without norm that takes the place of the input.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        out = self.relu(self.bn1(x))
        identity = x if self.shortcut is None else self.shortcut(out)
        out = self.relu(self.bn2(self.conv1(out)))
        return self.conv2(out) + identity


@MODELS.register_module()
class WideResNet(StagedBackbone):
    """WRN-d-k (Zagoruyko and Komodakis, 2016) for small images, without dropout.

    Stem: 3x3 convolution of stride 1, without norm. Three stages of (d - 4) / 6 pre-activation
    blocks have 16 k, 32 k and 64 k channels; the second and third halve the image.

    Maps of stages 1 and 2 are sums of blocks as the next one takes them, before its BN and ReLU.
    The last stage ends in the network's final BN and ReLU, so that its map is the one that is
    pooled and classified. MFAKD (paper 001) hands it to the teacher's classifier. The released code
    taps the map before them, which that classifier never saw.

    Args:
        depth: d, from 10 in steps of 6.
        base_channels: 16 k, channels of the first stage; the others have 2 and 4 times as many.
        stem_channels: Channels of the stem.
        out_indices: Stages whose maps are returned, ascending, from 0 to 2.
        init_cfg: Initialisation of mmengine.

    Raises:
        ValueError: If ``depth``, ``base_channels`` or ``out_indices`` is out of range.

    Example:
        >>> import torch
        >>> network = WideResNet(depth=10, base_channels=4)
        >>> [tuple(x.shape[1:]) for x in network(torch.zeros(1, 3, 32, 32))]
        [(4, 32, 32), (8, 16, 16), (16, 8, 8)]
    """

    def __init__(
        self,
        depth: int,
        base_channels: int = 16,
        stem_channels: int = 16,
        out_indices: Sequence[int] = THREE_STAGES,
        init_cfg: dict | list[dict] | None = KAIMING_FAN_OUT,
    ) -> None:
        super().__init__(init_cfg)
        base, self.out_indices = check_arguments(
            'WideResNet', base_channels, out_indices, THREE_STAGES
        )
        if not isinstance(depth, int) or depth < 10 or depth % 6 != 4:
            raise ValueError(f'WideResNet: depth={depth!r} must be 10, 16, 22, .. (6 n + 4).')
        blocks = (depth - 4) // 6
        self.stem = nn.Conv2d(3, stem_channels, 3, padding=1, bias=False)
        self.layer1 = nn.Sequential(*_blocks(stem_channels, base, blocks, 1))
        self.layer2 = nn.Sequential(*_blocks(base, 2 * base, blocks, 2))
        self.layer3 = nn.Sequential(
            *_blocks(2 * base, 4 * base, blocks, 2),
            nn.BatchNorm2d(4 * base),
            nn.ReLU(inplace=True),
        )


def _blocks(in_channels: int, out_channels: int, blocks: int, stride: int) -> list[nn.Module]:
    rest = [PreActivationBlock(out_channels, out_channels) for _ in range(blocks - 1)]
    return [PreActivationBlock(in_channels, out_channels, stride), *rest]
