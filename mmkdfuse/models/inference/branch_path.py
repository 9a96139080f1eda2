"""One branch of a neck, alone."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor

from mmkdfuse.models.necks.multi_branch_neck import MultiBranchNeck
from mmkdfuse.registry import MODELS


@MODELS.register_module()
class BranchPath(BaseModule):
    """Path from stage maps to one branch's feature, for a network deployed at that branch.

    Args:
        neck: Config of the whole neck (``KFMNeck``, ``BYOTNeck``, ..), ``stage_shapes`` included.
        branch: Number of the branch, from 1.

    Raises:
        ValueError: If the neck has no such branch.

    Example:
        >>> import torch
        >>> neck = dict(type='mmkdfuse.KFMNeck', stage_shapes=[(4, 8, 8), (8, 4, 4), (16, 2, 2)])
        >>> path = BranchPath(neck, branch=2)  # it starts at stage 2
        >>> path([torch.zeros(1, 4, 8, 8), torch.zeros(1, 8, 4, 4)])[0].shape
        torch.Size([1, 16])
    """

    def __init__(self, neck: dict, branch: int) -> None:
        super().__init__()
        whole: MultiBranchNeck = MODELS.build(neck)
        branches = whole.num_features - 1
        if not 1 <= branch <= branches:
            raise ValueError(
                f'BranchPath: branch={branch} must be from 1 to {branches}, the branches of '
                f'{type(whole).__name__}.'
            )
        self.path = whole.path(branch - 1)

    def forward(self, stages: Sequence[Tensor]) -> tuple[Tensor]:
        """Return the branch's feature (N, D) in a tuple, as mmpretrain's heads take it.

        Args:
            stages: The backbone's first maps, each (N, C, H, W), as many as the branch reads.
        """
        return (self.path(stages),)
