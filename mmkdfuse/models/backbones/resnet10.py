"""ResNet-10."""

from typing import Any

from mmpretrain.models.backbones import ResNet
from mmpretrain.models.backbones.resnet import BasicBlock

from mmkdfuse.registry import MODELS


@MODELS.register_module()
class ResNet10(ResNet):
    """mmpretrain's ``ResNet`` with one basic block in each of its four stages.

    Args:
        **kwargs: Those of mmpretrain's ``ResNet``, ``depth`` excepted.
    """

    arch_settings = {10: (BasicBlock, (1, 1, 1, 1))}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(10, **kwargs)
