"""Base class of backbones made of a stem and stages in a row."""

from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn

# Normal of variance 2 / (kernel area x output channels): the initialisation of all reference
# networks that do not keep PyTorch's.
KAIMING_FAN_OUT = dict(type='Kaiming', layer='Conv2d')


class StagedBackbone(BaseBackbone):
    """A chain of modules, added by a subclass in their order: ``stem``, ``layer1``, ``layer2``, ..

    Attributes:
        out_indices: Stages whose maps are returned, counted from 0; the stem is none.
    """

    stem: nn.Module
    out_indices: tuple[int, ...]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the stage maps chosen by ``out_indices``, each (N, C, H, W)."""
        maps = []
        for module in self.children():
            x = module(x)
            maps.append(x)
        return tuple(maps[index + 1] for index in self.out_indices)
