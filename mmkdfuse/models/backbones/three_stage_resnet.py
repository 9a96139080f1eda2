"""ResNets of three stages for small images."""

from collections.abc import Sequence
from typing import Any

from mmpretrain.models.backbones import ResNet_CIFAR
from mmpretrain.models.backbones.resnet import BasicBlock

from mmkdfuse.models.backbones.arguments import THREE_STAGES, check_arguments, refuse_unused
from mmkdfuse.registry import MODELS


@MODELS.register_module()
class ThreeStageResNet(ResNet_CIFAR):
    """ResNet-d for CIFAR (He et al., 2016, sec. 4.2), wide variants included.

    mmpretrain's ``ResNet_CIFAR`` with three stages of (d - 2) / 6 basic blocks each; the second and
    third halve the image and double the channels. Where the channels change, the shortcut is a 1x1
    convolution with BN.

    Args:
        depth: d, from 8 to 122 in steps of 6.
        base_channels: Channels of the first stage.
        stem_channels: Channels of the stem.
        out_indices: Stages whose maps are returned, ascending, from 0 to 2.
        zero_init_residual: Start with blocks that add nothing; the reference networks do not.
        **kwargs: ``frozen_stages``, ``norm_cfg``, .. of mmpretrain's ``ResNet``.

    Raises:
        ValueError: If ``depth``, ``base_channels`` or ``out_indices`` is out of range.

    Example:
        >>> import torch
        >>> network = ThreeStageResNet(depth=8, base_channels=4)
        >>> [tuple(x.shape[1:]) for x in network(torch.zeros(1, 3, 32, 32))]
        [(4, 32, 32), (8, 16, 16), (16, 8, 8)]
    """

    arch_settings = {6 * blocks + 2: (BasicBlock, 3 * (blocks,)) for blocks in range(1, 21)}

    def __init__(
        self,
        depth: int,
        base_channels: int = 16,
        stem_channels: int = 16,
        out_indices: Sequence[int] = THREE_STAGES,
        zero_init_residual: bool = False,
        **kwargs: Any,
    ) -> None:
        base_channels, out_indices = check_arguments(
            'ThreeStageResNet', base_channels, out_indices, THREE_STAGES
        )
        if depth not in self.arch_settings:
            raise ValueError(
                f'ThreeStageResNet: depth={depth!r} must be 8, 14, 20, .., 122 (6 n + 2).'
            )
        refuse_unused(
            'ThreeStageResNet',
            style=kwargs.get('style'),
            expansion=kwargs.get('expansion'),
            deep_stem=kwargs.get('deep_stem'),
        )
        super().__init__(
            depth,
            base_channels=base_channels,
            stem_channels=stem_channels,
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=out_indices,
            zero_init_residual=zero_init_residual,
            **kwargs,
        )
