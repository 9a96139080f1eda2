"""Losses: tensors in, scalar out."""

from mmkdfuse.models.losses.branch_feature import BranchFeatureLoss
from mmkdfuse.models.losses.mutual_kl import MutualKLLoss

__all__ = ['BranchFeatureLoss', 'MutualKLLoss']
