"""ResNet-10."""

from typing import Any

from mmpretrain.models.backbones import ResNet
from mmpretrain.models.backbones.resnet import BasicBlock

from mmkdfuse.models.backbones.arguments import NUM_STAGES, refuse_unused
from mmkdfuse.registry import MODELS


@MODELS.register_module()
class ResNet10(ResNet):
    """mmpretrain's ``ResNet`` with one basic block in each of its four stages.

    Args:
        **kwargs: Those of mmpretrain's ``ResNet``, ``depth`` excepted; basic blocks have no
            ``style`` and no ``expansion``.

    Raises:
        ValueError: If one of these is set.

    Example:
        >>> import torch
        >>> network = ResNet10(base_channels=4, stem_channels=4)
        >>> [tuple(x.shape[1:]) for x in network(torch.zeros(1, 3, 64, 64))]
        [(32, 2, 2)]
    """

    arch_settings = {10: (BasicBlock, (1, 1, 1, 1))}

    def __init__(self, **kwargs: Any) -> None:
        refuse_unused('ResNet10', style=kwargs.get('style'), expansion=kwargs.get('expansion'))
        stages = kwargs.get('num_stages', NUM_STAGES)
        kwargs.setdefault('strides', (1, 2, 2, 2)[:stages])
        kwargs.setdefault('dilations', (1,) * stages)
        super().__init__(10, **kwargs)
