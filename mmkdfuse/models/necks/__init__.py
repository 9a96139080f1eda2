"""Necks: what stands between a backbone's stages and the classifiers."""

from mmkdfuse.models.necks.byot_neck import BYOTNeck
from mmkdfuse.models.necks.fkd_neck import FKDNeck
from mmkdfuse.models.necks.kfm import KFM
from mmkdfuse.models.necks.kfm_neck import KFMNeck, plan_branches
from mmkdfuse.models.necks.multi_branch_neck import Branch, MultiBranchNeck

__all__ = [
    'KFM',
    'BYOTNeck',
    'Branch',
    'FKDNeck',
    'KFMNeck',
    'MultiBranchNeck',
    'plan_branches',
]
