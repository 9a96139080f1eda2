"""Classification heads."""

from mmkdfuse.models.heads.branch_head import BranchHead

__all__ = ['BranchHead']
