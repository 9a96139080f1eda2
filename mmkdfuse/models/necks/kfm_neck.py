"""The branches of KFMSD between the backbone's stages and the classifiers."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch.nn.functional as F
from mmengine.model import ModuleList, Sequential
from torch import Tensor, nn

from mmkdfuse.models.necks.branch_modules import BranchModule, Downsample
from mmkdfuse.models.necks.multi_branch_neck import Branch, MultiBranchNeck
from mmkdfuse.models.probe import StageShape
from mmkdfuse.registry import MODELS

FUSE_MODES = ('fused', 'detached', 'none')


@dataclass(frozen=True)
class BranchPlan:
    """Plan of one branch; stages count from 0.

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
    stage_shapes: Sequence[StageShape],
    fuse: str | Sequence[str] = 'fused',
    branches: int | Sequence[int] | None = None,
) -> list[BranchPlan]:
    """Derive the branches from the stages' shapes.

    With S stages (paper 000, Fig. 3 for S = 4), stage i <= S-2 is downsampled to stage i+1 and
    fused with it. One module per remaining stage carries the result on. Stage S-1 goes through one
    module.

    Args:
        stage_shapes: (C, H, W) of every stage, shallow to deep; at least two.
        fuse: ``'fused'``, ``'detached'`` (the main network's map enters without gradient) or
            ``'none'`` (no KFM), for all branches or one mode per branch. The branch of stage S-1
            has no map to be fused with. Stages whose next map is 1x1 are never fused, with one
            warning.
        branches: Stages (from 1) that grow a branch, or how many of the deepest do; default all
            but the last.

    Raises:
        ValueError: For an unknown mode, another number of modes than branches, or a stage that
            does not exist or has no branch.
    """
    last = len(stage_shapes) - 1
    stages = _branch_stages(branches, last)
    modes = [fuse] * len(stages) if isinstance(fuse, str) else list(fuse)
    if len(modes) != len(stages) or any(mode not in FUSE_MODES for mode in modes):
        raise ValueError(
            f'KFMNeck: fuse={fuse!r} must be one of {FUSE_MODES} or a list of them, '
            f'one for each of the {len(stages)} branches.'
        )
    plans = []
    unfusible = []
    for stage, mode in zip((number - 1 for number in stages), modes, strict=True):
        downsample = stage + 1 < last
        mode = mode if downsample else 'none'
        if mode != 'none' and stage_shapes[stage + 1][1:] == (1, 1):
            unfusible.append(stage + 1)
            mode = 'none'
        modules = tuple(range(stage + 2 if downsample else stage + 1, last + 1))
        plans.append(BranchPlan(stage, downsample, mode, modules))
    if unfusible:
        warnings.warn(
            f"KFMNeck: the branches of stages {unfusible} are not fused (fuse='none') because the "
            'next stage is of size 1x1 for this image_size.',
            stacklevel=2,
        )
    return plans


def _branch_stages(branches: int | Sequence[int] | None, last: int) -> list[int]:
    """Stages (from 1) that grow a branch; ``last`` of them can."""
    candidates = range(1, last + 1)
    if branches is None:
        return list(candidates)
    if isinstance(branches, int) and not isinstance(branches, bool) and branches in candidates:
        return list(candidates[-branches:])
    stages = list(branches) if isinstance(branches, Sequence) else []
    exist = all(stage in candidates for stage in stages)
    if not stages or not exist or sorted(set(stages)) != stages:
        raise ValueError(
            f'KFMNeck: branches={branches!r} must be ascending stage numbers from 1 to {last}, '
            f'or how many of the deepest stages grow a branch, 1 to {last}.'
        )
    return stages


class KFMBranch(Branch):
    """One branch as planned: downsampling, fusion and modules, then average pooling.

    Args:
        plan: Its plan.
        stage_shapes: (C, H, W) of every stage.
        kfm: The fusion module.
        modules: module1, module2, .. as planned.
        pooling: As for :class:`Branch`.
    """

    def __init__(
        self,
        plan: BranchPlan,
        stage_shapes: Sequence[StageShape],
        kfm: nn.Module,
        modules: Sequence[nn.Module],
        pooling: nn.Module | None = None,
    ) -> None:
        super().__init__(pooling)
        self.plan = plan
        self.stages_read = plan.stage + (1 if plan.fuse == 'none' else 2)
        self.kfm = kfm
        if plan.downsample:
            self.downsample = Downsample(stage_shapes[plan.stage], stage_shapes[plan.stage + 1])
        self.blocks = Sequential(*modules)

    def feature_map(self, stages: Sequence[Tensor]) -> Tensor:
        """Return the map before pooling, (N, C, H, W) of about the last stage's size."""
        x = stages[self.plan.stage]
        if self.plan.downsample:
            x = self.downsample(x)
        if self.plan.fuse != 'none':
            x = self._fuse(x, stages[self.plan.stage + 1])
        return self.blocks(x)

    def _fuse(self, x: Tensor, deeper: Tensor) -> Tensor:
        if deeper.shape[2:] == (1, 1):  # images smaller than the probed one
            return x
        if x.shape != deeper.shape:  # sizes no convolution hits, or unlike the probed ones
            x = F.adaptive_avg_pool2d(x, (deeper.shape[2], deeper.shape[3]))
        return self.kfm([x, deeper.detach() if self.plan.fuse == 'detached' else deeper])


@MODELS.register_module()
class KFMNeck(MultiBranchNeck):
    """Branches of KFMSD: one feature per branch and the main network's (paper 000, sec. 3.2).

    Branch 1 of a four-stage network: stage 1 -> downsampling -> KFM with stage 2 -> module1 ->
    module2 -> pooling; branch 2: stage 2 -> downsampling -> KFM with stage 3 -> module2; branch 3:
    stage 3 -> module2. Fusion happens in the branches only: the main feature is the pooled last
    stage, untouched.

    The paper does not say whether gradients flow from a branch into the deeper stage it is fused
    with; default yes (``fuse='fused'``), ``'detached'`` and ``'none'`` are the other readings. It
    does not give the convolutions of module1/module2 either; default is the bottleneck.

    Args:
        stage_shapes: (C, H, W) of every stage; filled in by the classifier from a dry run.
        fuse: ``'fused'``, ``'detached'`` or ``'none'``, for all branches or one mode per branch.
        module: ``'bottleneck'`` (1x1 -> 3x3 stride 2 -> 1x1) or ``'sepconv'``.
        width: Inner channels of the bottleneck; default a quarter of the module's output.
        branches: Stages (from 1) that grow a branch, or how many of the deepest do; default all
            but the last.
        share_modules: False: branches share no weights. True: modules that take the place of the
            same stage are one module in all branches, its batch-norm statistics included, which
            then mix the branches. State dicts list it once per branch, and ``paramwise_cfg`` of an
            optimiser needs ``bypass_duplicate=True``.
        kfm: Config of the fusion module.
        init_cfg: As for :class:`MultiBranchNeck`.
        pooling: Likewise.

    Example:
        >>> import torch
        >>> shapes = [(4, 8, 8), (8, 4, 4), (16, 2, 2)]
        >>> neck = KFMNeck(shapes)
        >>> [tuple(feature.shape) for feature in neck([torch.zeros(2, *shape) for shape in shapes])]
        [(2, 16), (2, 16), (2, 16)]
    """

    def __init__(
        self,
        stage_shapes: Sequence[StageShape],
        fuse: str | Sequence[str] = 'fused',
        module: str = 'bottleneck',
        width: int | None = None,
        branches: int | Sequence[int] | None = None,
        share_modules: bool = False,
        kfm: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
        pooling: dict | None = None,
    ) -> None:
        super().__init__(stage_shapes, init_cfg, pooling)
        self.plans = plan_branches(self.stage_shapes, fuse, branches)
        if width is not None and (module != 'bottleneck' or width < 1):
            raise ValueError(
                f'KFMNeck: width={width!r} with module={module!r}, expected at least 1 with '
                "module='bottleneck', or no width."
            )
        if kfm and fuse == 'none':
            raise ValueError(f"KFMNeck: kfm={kfm} would be ignored with fuse='none'; leave it out.")
        fusion = MODELS.build({'type': 'mmkdfuse.KFM', **(kfm or {})})
        shapes = self.stage_shapes

        def in_place_of(stage: int) -> BranchModule:
            return BranchModule(shapes[stage - 1], shapes[stage], module, width)

        # Whatever the branch, a module in place of stage s gets a map of the shape of stage s-1.
        build = cache(in_place_of) if share_modules else in_place_of
        self.branches = ModuleList(
            KFMBranch(
                plan,
                shapes,
                fusion,
                [build(stage) for stage in plan.modules],
                self.new_pooling(),
            )
            for plan in self.plans
        )

    def describe(self) -> list[str]:
        """Return the plan of every branch, one line a branch."""
        return [f'branch{number}: {plan}' for number, plan in enumerate(self.plans, start=1)]
