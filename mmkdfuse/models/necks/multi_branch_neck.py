"""Base classes of the necks of self-distilling networks: branches beside the main network."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList, initialize
from torch import Tensor, nn

from mmkdfuse.models.filled_in import completed
from mmkdfuse.models.necks.pooling import POOLING, build_neck, pooled
from mmkdfuse.models.probe import StageShape
from mmkdfuse.registry import MODELS


def pool(feature_map: Tensor) -> Tensor:
    """Global average pooling, (N, C, H, W) -> (N, C)."""
    return F.adaptive_avg_pool2d(feature_map, 1).flatten(1)


class Branch(BaseModule):
    """Base class of branches: stage maps in, the branch's feature out.

    Args:
        pooling: Module between its map and its feature; default global average pooling.

    Attributes:
        stages_read: How many of the backbone's stages, counted from the first, the branch needs.

    Example:
        >>> import torch
        >>> class PooledStage(Branch):
        ...     stages_read = 1
        ...     def feature_map(self, stages):
        ...         return stages[0]
        >>> PooledStage()([torch.ones(2, 8, 4, 4)]).shape
        torch.Size([2, 8])
    """

    stages_read: int

    def __init__(self, pooling: nn.Module | None = None) -> None:
        super().__init__()
        self.pooling: nn.Module = MODELS.build(POOLING) if pooling is None else pooling

    def feature_map(self, stages: Sequence[Tensor]) -> Tensor:
        """Return the map before pooling, (N, C, H, W) of about the last stage's size."""
        raise NotImplementedError

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Return the branch's pooled feature (N, D)."""
        return pooled(self.pooling, self.feature_map(stages))


class MultiBranchNeck(BaseModule):
    """Base class of necks that give one feature per branch and the main network's.

    The main network's feature is the pooled last stage. Subclasses fill ``self.branches`` with
    :class:`Branch` modules.

    Args:
        stage_shapes: (C, H, W) of every stage, shallow to deep; filled in by the classifier from a
            dry run. At least two.
        init_cfg: Initialisation of mmengine; it takes the place of the branches' own.
        pooling: Config of an mmpretrain neck that pools the main network's map and every branch's,
            one module for each; default global average pooling.

    Attributes:
        pooling: The main network's.
        pooling_config: Its config, channels written out.

    Example:
        >>> from mmkdfuse.models import KFMNeck
        >>> neck = KFMNeck([(4, 8, 8), (8, 4, 4), (16, 2, 2)])
        >>> isinstance(neck, MultiBranchNeck), neck.num_features, neck.out_channels
        (True, 3, 16)
    """

    branches: ModuleList

    def __init__(
        self,
        stage_shapes: Sequence[StageShape],
        init_cfg: dict | list[dict] | None = None,
        pooling: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.stage_shapes = [(channels, height, width) for channels, height, width in stage_shapes]
        if len(self.stage_shapes) < 2:
            raise ValueError(
                f'{type(self).__name__}: stage_shapes={self.stage_shapes} must hold at least two '
                'stages; give the backbone more `out_indices`, for example `(0, 1, 2, 3)` '
                '(`out_scales` of MViT, `features_only=True` of TIMMBackbone).'
            )
        shape = self.stage_shapes[-1]
        self.pooling_config = completed(pooling or POOLING, in_channels=shape[0])
        self.pooling, self._out_channels = build_neck(self.pooling_config, shape)

    def new_pooling(self) -> nn.Module:
        """Return a pooling like the main network's, for one branch."""
        return MODELS.build(dict(self.pooling_config))

    def init_weights(self) -> None:
        """Initialise the branches their own way, then by ``init_cfg``."""
        super().init_weights()
        if self.init_cfg:
            initialize(self, self.init_cfg)

    @property
    def num_features(self) -> int:
        """M: the number of features, branches and main network."""
        return len(self.branches) + 1

    @property
    def out_channels(self) -> int:
        """D: channels of every feature."""
        return self._out_channels

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
        return (*self.branch_features(stages), self.main_feature(stages))

    def main_feature(self, stages: Sequence[Tensor]) -> Tensor:
        """Return the main network's feature, (N, D)."""
        return pooled(self.pooling, stages[-1])

    def branch_features(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Return the features of the branches, each (N, D)."""
        return [branch(stages) for branch in self.branches]
