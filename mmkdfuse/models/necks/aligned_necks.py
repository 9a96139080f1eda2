"""Connectors to several teachers, side by side."""

from collections.abc import Sequence

from mmengine.model import BaseModule, ModuleList
from torch import Tensor

from mmkdfuse.models.necks.aligned_neck import AlignedNeck
from mmkdfuse.registry import MODELS


@MODELS.register_module()
class AlignedNecks(BaseModule):
    """One :class:`AlignedNeck` for every teacher.

    Args:
        paths: The necks, modules or configs.

    Example:
        >>> import torch
        >>> connector = dict(type='mmkdfuse.MBCAConnector')
        >>> paths = [AlignedNeck((8, 4, 4), shape, connector) for shape in ((16, 8, 8), (32, 4, 4))]
        >>> [feature.shape[1] for feature in AlignedNecks(paths)([torch.zeros(1, 8, 4, 4)])]
        [16, 32]
    """

    def __init__(self, paths: Sequence[AlignedNeck | dict], init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.paths = ModuleList(
            path if isinstance(path, AlignedNeck) else MODELS.build(path) for path in paths
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return one feature (N, D_i) for every teacher from the student's last map."""
        return tuple(path(maps)[-1] for path in self.paths)
