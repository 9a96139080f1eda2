"""Classification heads."""

from mmkdfuse.models.heads.branch_head import BranchHead
from mmkdfuse.models.heads.mean_head import MeanHead

__all__ = ['BranchHead', 'MeanHead']
