"""VGG whose stages end before the max-pools."""

import warnings
from collections.abc import Sequence
from itertools import pairwise

from mmpretrain.models.backbones import VGG as _VGG
from mmpretrain.models.backbones.vgg import make_vgg_layer
from torch import Tensor, nn

from mmkdfuse.models.backbones.arguments import ALL_STAGES, check_arguments
from mmkdfuse.registry import MODELS


@MODELS.register_module()
class VGG(_VGG):
    """mmpretrain's ``VGG`` with the same layers and weights, cut into four other stages.

    Stage 1 is the convolution blocks 1 and 2, stages 2, 3 and 4 are the blocks 3, 4 and 5. A
    max-pool opens the stage that follows it, so that stages 1 to 3 give the maps before their pool;
    stage 4 keeps the last one. KFMSD (paper 000) does not print its cuts. These are "cut B": a
    32x32 image gives 16x16, 8x8, 4x4 and 1x1, and no map to be fused is of size 1x1. Cut A (blocks
    1, 2, 3, and 4 with 5) is ``mmpretrain.VGG`` with ``out_indices=(0, 1, 2, 4)``.

    Convolutions have a bias and PyTorch's initialisation, as in the reference network.

    Args:
        depth: 11, 13, 16 or 19.
        base_channels: Channels of the first block; the others have 2, 4, 8 and 8 times as many.
        out_indices: Stages whose maps are returned, ascending, from 0 to 3.
        norm_cfg: Normalisation after every convolution; None for none.
        frozen_stages: How many of the five blocks are not trained; -1 for none.
        norm_eval: Whether batch norm, where there is one, keeps its running statistics in training.
        init_cfg: Initialisation of mmengine.

    Raises:
        ValueError: If ``depth``, ``base_channels`` or ``out_indices`` is out of range.

    Example:
        >>> import torch
        >>> network = VGG(depth=11, base_channels=4)
        >>> [tuple(x.shape[1:]) for x in network(torch.zeros(1, 3, 32, 32))]
        [(8, 16, 16), (16, 8, 8), (32, 4, 4), (32, 1, 1)]
    """

    def __init__(
        self,
        depth: int,
        base_channels: int = 64,
        out_indices: Sequence[int] = ALL_STAGES,
        norm_cfg: dict | None = dict(type='BN'),  # noqa: B006 (copied by the layers)
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        owner = type(self).__name__
        base_channels, out_indices = check_arguments(owner, base_channels, out_indices)
        if depth not in self.arch_settings:
            known = tuple(self.arch_settings)
            raise ValueError(f'{owner}: depth={depth!r} must be one of {known}.')
        with warnings.catch_warnings():
            # The reference network has a bias before its batch norm, which mmcv advises against.
            warnings.filterwarnings('ignore', 'Unnecessary conv bias')
            super().__init__(
                depth,
                frozen_stages=frozen_stages,
                norm_cfg=norm_cfg,
                norm_eval=norm_eval,
                init_cfg=init_cfg,
            )
            if base_channels != 64:  # the only width of mmpretrain's
                self.features = _make_features(self.stage_blocks, base_channels, norm_cfg)
        self.out_indices = out_indices
        for layer in self.features.modules():
            if isinstance(layer, nn.Conv2d):  # initialised otherwise by mmcv's ConvModule
                layer.reset_parameters()
        self._pool_indices = [end - 1 for _, end in self.range_sub_modules]
        self._cuts = (0, *self._pool_indices[1:-1], len(self.features))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the stage maps chosen by ``out_indices``, each (N, C, H, W)."""
        height = x.shape[2]
        skipped = {
            index
            for block, index in enumerate(self._pool_indices)
            if not self._pools(block, height)
        }
        maps = []
        for stage, (start, end) in enumerate(pairwise(self._cuts)):
            for index in range(start, end):
                if index not in skipped:
                    x = self.features[index](x)
            if stage in self.out_indices:
                maps.append(x)
        return tuple(maps)

    def _pools(self, block: int, height: int) -> bool:
        """Whether the max-pool behind a block, counted from 0, is taken for images this high."""
        return True


def _make_features(
    blocks: Sequence[int], base_channels: int, norm_cfg: dict | None
) -> nn.Sequential:
    layers: list[nn.Module] = []
    in_channels = 3
    for block, convolutions in enumerate(blocks):
        channels = base_channels * min(2**block, 8)
        layers += make_vgg_layer(in_channels, channels, convolutions, norm_cfg=norm_cfg)
        in_channels = channels
    return nn.Sequential(*layers)
