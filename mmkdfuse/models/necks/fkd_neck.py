"""Branches of a KFD-like method: separable chains and one branch on all stages fused."""

from collections.abc import Sequence

import torch
from mmengine.model import ModuleList
from torch import Tensor, nn

from mmkdfuse.models.necks.byot_neck import ChainBranch, separable_chain
from mmkdfuse.models.necks.multi_branch_neck import Branch, MultiBranchNeck, pool
from mmkdfuse.models.necks.pooling import pooled
from mmkdfuse.models.probe import StageShape
from mmkdfuse.registry import MODELS


class SelectiveFusion(nn.Module):
    """Weighted sum of maps, the weights computed per channel from their sum (as in SKNet).

    Args:
        sources: Number of maps.
        channels: C.
        reduction: Ratio of C to the hidden channels, at least 1.
    """

    def __init__(self, sources: int, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(inplace=True))
        self.excite = nn.ModuleList(nn.Linear(hidden, channels) for _ in range(sources))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Fuse maps, each (N, C, H, W), into one."""
        stacked = torch.stack(tuple(maps), dim=1)
        hidden = self.squeeze(pool(stacked.sum(dim=1)))
        scores = torch.stack([layer(hidden) for layer in self.excite], dim=1)  # (N, sources, C)
        return (scores.softmax(dim=1)[..., None, None] * stacked).sum(dim=1)


class FusedBranch(Branch):
    """The branch on all stages: every branch's map and the last stage, fused, pooled."""

    def __init__(
        self,
        branches: Sequence[ChainBranch],
        fusion: SelectiveFusion,
        pooling: nn.Module | None = None,
    ) -> None:
        super().__init__(pooling)
        self.chains = ModuleList(branches)
        self.fusion = fusion
        self.stages_read = len(branches) + 1

    def feature_map(self, stages: Sequence[Tensor]) -> Tensor:
        """Return the fused map before pooling, (N, C, H, W)."""
        maps = [chain.feature_map(stages) for chain in self.chains]
        return self.fusion([*maps, stages[-1]])


@MODELS.register_module()
class FKDNeck(MultiBranchNeck):
    """A branch after every stage but the last, and one more on all stages fused.

    Our reading of a method of which only the abstract is known to us ("KFD", Li et al., Neural
    Processing Letters 2023; "FKD" in Table 6 of paper 000). A selective fusion of the features of
    several layers feeds one more classifier, which teaches all others. It is not the authors'
    module. The fused branch is the last branch, before the main network.

    Args:
        stage_shapes: (C, H, W) of every stage; filled in by the classifier from a dry run.
        reduction: Ratio of channels to hidden channels in the fusion, at least 1.
        init_cfg: As for :class:`MultiBranchNeck`.
        pooling: Likewise.

    Example:
        >>> import torch
        >>> shapes = [(4, 8, 8), (8, 4, 4), (16, 2, 2)]
        >>> neck = FKDNeck(shapes)
        >>> [tuple(feature.shape) for feature in neck([torch.zeros(2, *shape) for shape in shapes])]
        [(2, 16), (2, 16), (2, 16), (2, 16)]
    """

    def __init__(
        self,
        stage_shapes: Sequence[StageShape],
        reduction: int = 16,
        init_cfg: dict | list[dict] | None = None,
        pooling: dict | None = None,
    ) -> None:
        super().__init__(stage_shapes, init_cfg, pooling)
        if reduction < 1:
            raise ValueError(f'FKDNeck: reduction={reduction} must be at least 1.')
        stages = range(len(self.stage_shapes) - 1)
        self.branches = ModuleList(
            ChainBranch(stage, separable_chain(self.stage_shapes[stage:]), self.new_pooling())
            for stage in stages
        )
        channels = self.stage_shapes[-1][0]
        self.fusion = SelectiveFusion(len(self.stage_shapes), channels, reduction)
        self.fused_pooling = self.new_pooling()

    @property
    def num_features(self) -> int:
        """M: the number of features, branches, fused branch and main network."""
        return len(self.branches) + 2

    def path(self, index: int) -> Branch:
        """Everything that branch ``index`` (from 0; the fused one last) needs, as one module."""
        if index < len(self.branches):
            return super().path(index)
        return FusedBranch(list(self.branches), self.fusion, self.fused_pooling)

    def branch_features(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Return the features of the branches and of all stages fused, each (N, D)."""
        maps = [branch.feature_map(stages) for branch in self.branches]
        maps.append(self.fusion([*maps, stages[-1]]))
        poolings = [*(branch.pooling for branch in self.branches), self.fused_pooling]
        return [pooled(pooling, each) for pooling, each in zip(poolings, maps, strict=True)]
