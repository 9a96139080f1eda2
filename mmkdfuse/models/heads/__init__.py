"""Classification heads."""

from mmkdfuse.models.heads.branch_head import BranchHead
from mmkdfuse.models.heads.ensemble_head import EnsembleHead

__all__ = ['BranchHead', 'EnsembleHead']
