"""VGG of the papers on distillation."""

from collections.abc import Sequence

from mmkdfuse.models.backbones.arguments import ALL_STAGES
from mmkdfuse.models.backbones.staged import KAIMING_FAN_OUT
from mmkdfuse.models.backbones.vgg import VGG
from mmkdfuse.registry import MODELS

FOURTH_POOL_HEIGHT = 64


@MODELS.register_module()
class VGG_CIFAR(VGG):  # noqa: N801 (mmpretrain's way of naming)
    """VGG as in the code of CRD, SimKD and MFAKD (paper 001): pooled less, VGG-8 added.

    Layers and stages are those of :class:`VGG`. Its last max-pool is left out, and the one before
    is taken only for images that are exactly 64 pixels high. The last map is 4x4 for 32x32 and for
    64x64, 28x28 for 224x224.

    Args:
        depth: 8, 11, 13, 16 or 19.
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
        >>> network = VGG_CIFAR(depth=8, base_channels=4)
        >>> [tuple(x.shape[1:]) for x in network(torch.zeros(1, 3, 32, 32))]
        [(8, 16, 16), (16, 8, 8), (32, 4, 4), (32, 4, 4)]
    """

    arch_settings = {8: (1, 1, 1, 1, 1), **VGG.arch_settings}

    def __init__(
        self,
        depth: int,
        base_channels: int = 64,
        out_indices: Sequence[int] = ALL_STAGES,
        norm_cfg: dict | None = dict(type='BN'),  # noqa: B006 (copied by the layers)
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | list[dict] | None = KAIMING_FAN_OUT,
    ) -> None:
        super().__init__(
            depth, base_channels, out_indices, norm_cfg, frozen_stages, norm_eval, init_cfg
        )

    def _pools(self, block: int, height: int) -> bool:
        return block < 3 or (block == 3 and height == FOURTH_POOL_HEIGHT)
