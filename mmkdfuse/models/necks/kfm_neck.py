"""The branches of KFMSD between the backbone's stages and the classifiers."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from mmengine.model import ModuleList, Sequential
from torch import Tensor, nn

from mmkdfuse.models.necks.branch_modules import BranchModule, Downsample
from mmkdfuse.models.necks.multi_branch_neck import Branch, MultiBranchNeck, pool
from mmkdfuse.models.probe import StageShape
from mmkdfuse.registry import MODELS

FUSE_MODES = ('fused', 'detached', 'none')


@dataclass(frozen=True)
class BranchPlan:
    """How one branch is built; stages count from 0.

    Attributes:
        stage: The stage whose map enters the branch.
        downsample: Whether the map is first brought to the next stage's shape.
        fuse: How it is then fused with the next stage's map: one of ``FUSE_MODES``.
        modules: The stages whose place module1, module2, .. take, in order.
    """

    stage: int
    downsample: bool
    fuse: str
    modules: tuple[int, ...]

    def __str__(self) -> str:
        text = f'stage {self.stage + 1}'
        if self.downsample:
            text += f' -> downsample to stage {self.stage + 2}'
        if self.fuse != 'none':
            detached = ' (detached)' if self.fuse == 'detached' else ''
            text += f' -> KFM with stage {self.stage + 2}{detached}'
        names = ', '.join(f'stage {module + 1}' for module in self.modules)
        return f'{text} -> module(s) in place of {names} -> pool'


def plan_branches(
    stage_shapes: Sequence[StageShape], fuse: str = 'fused', branches: Sequence[int] | None = None
) -> list[BranchPlan]:
    """Derive the branches from the stages' shapes.

    With S stages (paper 000, Fig. 3 for S = 4): stage i <= S-2 is downsampled to stage i+1, fused
    with it, and carried on by one module per remaining stage; stage S-1 goes through one module.

    Args:
        stage_shapes: (C, H, W) of every stage, shallow to deep; at least two.
        fuse: ``'fused'``, ``'detached'`` (the main network's map enters without gradient) or
            ``'none'`` (no KFM). Stages whose next map is 1x1 are never fused, with one warning.
        branches: Stages (from 1) that grow a branch; default all but the last.

    Raises:
        ValueError: For fewer than two stages, an unknown mode or a stage that does not exist.
    """
    last = len(stage_shapes) - 1
    if last < 1:
        raise ValueError(
            f'KFMNeck: stage_shapes={list(stage_shapes)} must hold at least two stages; '
            'give the backbone more `out_indices` (for example `out_indices=(0, 1, 2, 3)`).'
        )
    if fuse not in FUSE_MODES:
        raise ValueError(f'KFMNeck: fuse={fuse!r} must be one of {FUSE_MODES}.')
    stages = range(1, last + 1) if branches is None else branches
    if (
        not stages
        or sorted(set(stages)) != list(stages)
        or not 1 <= stages[0] <= stages[-1] <= last
    ):
        raise ValueError(
            f'KFMNeck: branches={list(stages)} must be ascending stage numbers from 1 to {last}.'
        )
    plans = []
    unfusible = []
    for stage in (number - 1 for number in stages):
        downsample = stage + 1 < last
        mode = fuse if downsample else 'none'
        if mode != 'none' and stage_shapes[stage + 1][1:] == (1, 1):
            unfusible.append(stage + 1)
            mode = 'none'
        modules = tuple(range(stage + 2 if downsample else stage + 1, last + 1))
        plans.append(BranchPlan(stage, downsample, mode, modules))
    if unfusible:
        warnings.warn(
            f"KFMNeck: branches {unfusible} are not fused (fuse='none') because the next stage "
            'is of size 1x1 for this image_size.',
            stacklevel=2,
        )
    return plans


class KFMBranch(Branch):
    """One branch as planned: downsampling, fusion and modules, then average pooling."""

    def __init__(
        self,
        plan: BranchPlan,
        stage_shapes: Sequence[StageShape],
        kfm: nn.Module,
        module: str,
        width: int | None,
    ) -> None:
        super().__init__()
        self.plan = plan
        self.stages_read = plan.stage + (1 if plan.fuse == 'none' else 2)
        self.kfm = kfm
        shape = stage_shapes[plan.stage]
        if plan.downsample:
            self.downsample = Downsample(shape, stage_shapes[plan.stage + 1])
            shape = stage_shapes[plan.stage + 1]
        self.blocks = Sequential()
        for stage in plan.modules:
            self.blocks.append(BranchModule(shape, stage_shapes[stage], module, width))
            shape = stage_shapes[stage]

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Return the branch's pooled feature (N, D)."""
        x = stages[self.plan.stage]
        if self.plan.downsample:
            x = self.downsample(x)
        if self.plan.fuse != 'none':
            x = self._fuse(x, stages[self.plan.stage + 1])
        return pool(self.blocks(x))

    def _fuse(self, x: Tensor, deeper: Tensor) -> Tensor:
        if deeper.shape[2:] == (1, 1):  # images smaller than the probed one
            return x
        if x.shape != deeper.shape:  # sizes no convolution hits, or unlike the probed ones
            x = F.adaptive_avg_pool2d(x, (deeper.shape[2], deeper.shape[3]))
        return self.kfm([x, deeper.detach() if self.plan.fuse == 'detached' else deeper])


@MODELS.register_module()
class KFMNeck(MultiBranchNeck):
    """Turns stage maps into one feature per branch and the main network's (paper 000, sec. 3.2).

    Branch 1 of a four-stage network: stage 1 -> downsampling -> KFM with stage 2 -> module1 ->
    module2 -> pooling; branch 2: stage 2 -> downsampling -> KFM with stage 3 -> module2; branch 3:
    stage 3 -> module2. Branches share no weights. Fusion happens in the branches only: the main
    feature is the pooled last stage, untouched.

    The paper does not say whether gradients flow from a branch into the deeper stage it is fused
    with; default yes (``fuse='fused'``), ``'detached'`` and ``'none'`` are the other readings. It
    does not give the convolutions of module1/module2 either; default is the bottleneck.

    Args:
        stage_shapes: (C, H, W) of every stage; filled in by the classifier from a dry run.
        fuse: ``'fused'``, ``'detached'`` or ``'none'``.
        module: ``'bottleneck'`` (1x1 -> 3x3 stride 2 -> 1x1) or ``'sepconv'``.
        width: Inner channels of the bottleneck; default a quarter of the module's output.
        branches: Stages (from 1) that grow a branch; default all but the last.
        kfm: Config of the fusion module.
    """

    def __init__(
        self,
        stage_shapes: Sequence[StageShape],
        fuse: str = 'fused',
        module: str = 'bottleneck',
        width: int | None = None,
        branches: Sequence[int] | None = None,
        kfm: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(stage_shapes, init_cfg)
        self.plans = plan_branches(self.stage_shapes, fuse, branches)
        fusion = MODELS.build({'type': 'mmkdfuse.KFM', **(kfm or {})})
        self.branches = ModuleList(
            KFMBranch(plan, self.stage_shapes, fusion, module, width) for plan in self.plans
        )

    def describe(self) -> list[str]:
        """Return the plan of every branch, one line a branch."""
        return [f'branch{number}: {plan}' for number, plan in enumerate(self.plans, start=1)]
