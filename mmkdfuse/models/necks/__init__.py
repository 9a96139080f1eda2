"""Necks: modules between a backbone's stages and the classifiers."""

from mmkdfuse.models.necks.aligned_neck import AlignedNeck
from mmkdfuse.models.necks.aligned_necks import AlignedNecks
from mmkdfuse.models.necks.byot_neck import BYOTNeck
from mmkdfuse.models.necks.final_conv import FinalConv
from mmkdfuse.models.necks.fkd_neck import FKDNeck
from mmkdfuse.models.necks.kfm import KFM
from mmkdfuse.models.necks.kfm_neck import KFMNeck, plan_branches
from mmkdfuse.models.necks.multi_branch_neck import Branch, MultiBranchNeck

__all__ = [
    'KFM',
    'AlignedNeck',
    'AlignedNecks',
    'BYOTNeck',
    'Branch',
    'FKDNeck',
    'FinalConv',
    'KFMNeck',
    'MultiBranchNeck',
    'plan_branches',
]
