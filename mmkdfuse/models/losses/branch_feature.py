"""Feature loss of KFMSD."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmkdfuse.registry import MODELS

REDUCTIONS = ('mean', 'squared', 'norm')
DETACHED = ('branch', 'main', None)


@MODELS.register_module()
class BranchFeatureLoss(nn.Module):
    """L2 distance between the main network's feature and every branch's.

    Paper 000, eq. 9: sum_i ||F_M - F_i||_2^2. The printed sum grows with the feature's width; the
    default averages it over the D features, so that one weight fits networks of any width. The
    branches' features are the targets ("learning targets for corresponding original network
    features"), so they are detached.

    Args:
        reduction: ``'mean'``: mean over batch and features of the squared difference;
            ``'squared'``: eq. 9 as printed, sum over features, mean over the batch; ``'norm'``:
            Frobenius norm of the whole batch's difference, not squared (the code lineage; not
            additive over processes).
        detach: The side without gradient: ``'branch'``, ``'main'`` or None.
    """

    def __init__(self, reduction: str = 'mean', detach: str | None = 'branch') -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(f'BranchFeatureLoss: reduction={reduction!r} must be in {REDUCTIONS}.')
        if detach not in DETACHED:
            raise ValueError(f'BranchFeatureLoss: detach={detach!r} must be in {DETACHED}.')
        self.reduction = reduction
        self.detach = detach

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
