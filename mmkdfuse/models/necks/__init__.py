"""Necks: what stands between a backbone's stages and the classifiers."""

from mmkdfuse.models.necks.kfm import KFM
from mmkdfuse.models.necks.kfm_neck import KFMNeck, plan_branches

__all__ = ['KFM', 'KFMNeck', 'plan_branches']
