"""One branch of a neck, alone."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor

from mmkdfuse.models.necks.multi_branch_neck import MultiBranchNeck
from mmkdfuse.registry import MODELS


@MODELS.register_module()
class BranchPath(BaseModule):
    """What carries stage maps to one branch's feature, for a network deployed at that branch.

    Args:
        neck: Config of the whole neck (``KFMNeck``, ``BYOTNeck``, ..), ``stage_shapes`` included.
        branch: Number of the branch, from 1.
        init_cfg: Initialisation of mmengine.

    Raises:
        ValueError: If the neck has no such branch.
    """

    def __init__(self, neck: dict, branch: int, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
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
