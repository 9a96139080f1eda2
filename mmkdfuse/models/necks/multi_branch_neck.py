"""What the necks of self-distilling networks share: several branches beside the main network."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList
from torch import Tensor

from mmkdfuse.models.probe import StageShape


def pool(feature_map: Tensor) -> Tensor:
    """Global average pooling, (N, C, H, W) -> (N, C)."""
    return F.adaptive_avg_pool2d(feature_map, 1).flatten(1)


class Branch(BaseModule):
    """What carries stage maps to one branch's feature.

    Attributes:
        stages_read: How many of the backbone's stages, counted from the first, the branch needs.
    """

    stages_read: int

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Return the branch's pooled feature (N, D)."""
        raise NotImplementedError


class MultiBranchNeck(BaseModule):
    """Turns stage maps into one feature per branch and the main network's, the pooled last stage.

    Subclasses fill ``self.branches`` with :class:`Branch` modules.

    Args:
        stage_shapes: (C, H, W) of every stage, shallow to deep; filled in by the classifier from a
            dry run. At least two.
    """

    branches: ModuleList

    def __init__(self, stage_shapes: Sequence[StageShape], init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.stage_shapes = [(channels, height, width) for channels, height, width in stage_shapes]
        if len(self.stage_shapes) < 2:
            raise ValueError(
                f'{type(self).__name__}: stage_shapes={self.stage_shapes} must hold at least two '
                'stages; give the backbone more `out_indices`, for example `(0, 1, 2, 3)` '
                '(`out_scales` of MViT, `features_only=True` of TIMMBackbone).'
            )

    @property
    def num_features(self) -> int:
        """M: the number of features, branches and main network."""
        return len(self.branches) + 1

    @property
    def out_channels(self) -> int:
        """D: channels of every feature."""
        return self.stage_shapes[-1][0]

    def path(self, index: int) -> Branch:
        """Everything that branch ``index`` (from 0) needs, as one module that works alone."""
        return self.branches[index]

    def describe(self) -> list[str]:
        """Return where every branch starts, one line a branch."""
        reads = [self.path(index).stages_read for index in range(self.num_features - 1)]
        return [f'branch{number}: after stage {last}' for number, last in enumerate(reads, start=1)]

    def forward(self, stages: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return (F1, .., FM), each (N, D), the main network's last.

        Args:
            stages: The backbone's maps, shallow to deep, each (N, C, H, W).
        """
        if len(stages) != len(self.stage_shapes):
            raise ValueError(
                f'{type(self).__name__}: got {len(stages)} stage maps, '
                f'built for {len(self.stage_shapes)}.'
            )
        return (*self.branch_features(stages), pool(stages[-1]))

    def branch_features(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Return the features of the branches, each (N, D)."""
        return [branch(stages) for branch in self.branches]
