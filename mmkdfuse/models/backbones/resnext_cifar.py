"""ResNeXt for small images."""

from typing import Any

from mmpretrain.models.backbones import ResNet_CIFAR, ResNeXt

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
    """

    def __init__(
        self,
        depth: int,
        base_channels: int = 64,
        width_per_group: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            depth,
            base_channels=base_channels,
            width_per_group=width_per_group or max(1, base_channels // 16),
            **kwargs,
        )
