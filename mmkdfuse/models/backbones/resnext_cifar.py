"""ResNeXt for small images."""

from typing import Any

from mmpretrain.models.backbones import ResNet_CIFAR, ResNeXt

from mmkdfuse.models.backbones.arguments import NUM_STAGES, refuse_unused
from mmkdfuse.registry import MODELS


@MODELS.register_module()
class ResNeXt_CIFAR(ResNet_CIFAR, ResNeXt):  # noqa: N801 (mmpretrain's way of naming)
    """ResNeXt ("Aggregated Residual Transformations", Xie et al., 2017) with the stem for CIFAR.

    One 3x3 convolution of stride 1 without max-pooling, as in mmpretrain's ``ResNet_CIFAR``; the
    blocks and all other arguments are those of mmpretrain's ``ResNeXt``.

    Args:
        depth: 50, 101 or 152.
        base_channels: Unit of all widths but the stem's (``stem_channels``): stage k has
            4 * 2^(k-1) times as many channels.
        width_per_group: Channels of each of the 32 groups in the first stage; default 4 for the
            usual 64 ``base_channels`` and in proportion to them, so that one keyword shrinks all.

    Example:
        >>> import torch
        >>> network = ResNeXt_CIFAR(depth=50, base_channels=16, stem_channels=4)
        >>> [tuple(x.shape[1:]) for x in network(torch.zeros(1, 3, 32, 32))]
        [(512, 4, 4)]
    """

    def __init__(
        self,
        depth: int,
        base_channels: int = 64,
        width_per_group: int | None = None,
        **kwargs: Any,
    ) -> None:
        refuse_unused('ResNeXt_CIFAR', deep_stem=kwargs.get('deep_stem'))
        stages = kwargs.get('num_stages', NUM_STAGES)
        kwargs.setdefault('strides', (1, 2, 2, 2)[:stages])
        kwargs.setdefault('dilations', (1,) * stages)
        if width_per_group is None:
            width_per_group = max(1, base_channels // 16)
        super().__init__(
            depth,
            base_channels=base_channels,
            width_per_group=width_per_group,
            **kwargs,
        )
