"""Distance between the features of the main network and the branches (KFMSD, BYOT)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmengine.model import ModuleList
from torch import Tensor, nn

from mmkdfuse.models.losses.loss import Loss
from mmkdfuse.models.losses.mutual_kl import check_branches
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import MAIN, NetworkInfo, Reads, Step, Taps, head_named

REDUCTIONS = ('mean', 'squared', 'norm')
DETACHED = ('branch', 'main', None)


@MODELS.register_module()
class BranchFeatureLoss(Loss):
    """L2 distance between the main network's feature and every branch's.

    Paper 000, eq. 9: sum_i ||F_M - F_i||_2^2. The printed sum grows with the feature's width; the
    default averages it over the D features, so that one weight fits networks of any width. The
    branches' features are the targets ("learning targets for corresponding original network
    features"), so they are detached.

    Term: ``loss_feature``.

    Args:
        reduction: ``'mean'``: mean over batch and features of the squared difference.
            ``'squared'``: eq. 9 as printed, sum over features, mean over the batch. ``'norm'``:
            Frobenius norm of the whole batch's difference, not squared (the code lineage). It is
            not additive over processes.
        detach: The side without gradient: ``'branch'``, ``'main'`` or None.
        target: Head whose feature takes the place of F_M, such as ``'last_branch'``.
        adapters: One linear layer on every other head's feature; training only.
        exempt_deepest: Leave the last branch before the main network out (BYOT's journal code).
        weight: Factor of the term, >= 0; delta of KFMSD.
        **kwargs: ``warmup_epochs`` of :class:`Loss`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> BranchFeatureLoss('squared')(torch.ones(2, 3), [torch.zeros(2, 3)]).item()
        3.0
    """

    def __init__(
        self,
        reduction: str = 'mean',
        detach: str | None = 'branch',
        *,
        target: str = MAIN,
        adapters: bool = False,
        exempt_deepest: bool = False,
        weight: float = 1.0,
        **kwargs,
    ) -> None:
        super().__init__(weight, **kwargs)
        if reduction not in REDUCTIONS:
            raise ValueError(f'BranchFeatureLoss: reduction={reduction!r} must be in {REDUCTIONS}.')
        if detach not in DETACHED:
            raise ValueError(f'BranchFeatureLoss: detach={detach!r} must be in {DETACHED}.')
        if adapters and detach == 'branch':
            raise ValueError(
                "BranchFeatureLoss: adapters=True would never be trained with detach='branch', "
                "expected detach='main' or None."
            )
        self.reduction = reduction
        self.detach = detach
        self.target = target
        self.exempt_deepest = exempt_deepest
        self.adapters: nn.ModuleList | None = ModuleList() if adapters else None
        self.reads = Reads(student=Taps(features='all'))

    def connect(self, student: NetworkInfo, teachers: Sequence[NetworkInfo]) -> None:
        """Choose the heads that are compared with the target, and build their adapters."""
        check_branches('BranchFeatureLoss', student)
        self._target = head_named(self.target, student.heads, 'BranchFeatureLoss')
        heads = [head for head in student.heads if head != self._target]
        self.compared = heads[:-1] if self.exempt_deepest else heads
        if self.adapters is not None:
            (width,) = student.shapes(f'feature.{self._target}')
            self.adapters.extend(nn.Linear(width, width) for _ in self.compared)

    def terms(self, step: Step) -> Mapping[str, Tensor]:
        """Return ``loss_feature``, nothing where no head is left to compare."""
        features = [step.student.feature_of(head) for head in self.compared]
        if not features:
            return {}
        if self.adapters is not None:
            pairs = zip(self.adapters, features, strict=True)
            features = [adapter(feature) for adapter, feature in pairs]
        distance = self(step.student.feature_of(self._target), features)
        return {'loss_feature': self.weight_at(step) * distance}

    def forward(self, main_feature: Tensor, branch_features: Sequence[Tensor]) -> Tensor:
        """Return the scalar loss, summed over branches.

        Args:
            main_feature: F_M, (N, D).
            branch_features: F_1 .. F_(M-1), each (N, D); at least one.
        """
        main = main_feature.float()
        branches = torch.stack(tuple(branch_features)).float()
        if self.detach == 'branch':
            branches = branches.detach()
        elif self.detach == 'main':
            main = main.detach()
        difference = main - branches
        if self.reduction == 'norm':
            return torch.linalg.vector_norm(difference, dim=(1, 2)).sum()
        loss = difference.square().sum() / main.shape[0]
        return loss / main.shape[1] if self.reduction == 'mean' else loss

    def extra_repr(self) -> str:
        """Show the options in the printed model."""
        return f'reduction={self.reduction!r}, detach={self.detach!r}'
