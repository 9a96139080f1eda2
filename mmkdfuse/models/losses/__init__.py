"""Losses, one concept a file: the catalogue that ``losses=[..]`` takes from."""

from mmkdfuse.models.losses.alignment import AlignmentLoss
from mmkdfuse.models.losses.branch_feature import BranchFeatureLoss
from mmkdfuse.models.losses.classification import ClassificationLoss
from mmkdfuse.models.losses.dkd import DKDLoss
from mmkdfuse.models.losses.head_distillation import HeadDistillationLoss
from mmkdfuse.models.losses.hint import HintLoss
from mmkdfuse.models.losses.kd import KDLoss
from mmkdfuse.models.losses.loss import Loss
from mmkdfuse.models.losses.map_distance import MapDistanceLoss
from mmkdfuse.models.losses.mutual_kl import MutualKLLoss
from mmkdfuse.models.losses.peer_kl import PeerKLLoss
from mmkdfuse.models.losses.soft_kl import soft_kl

__all__ = [
    'AlignmentLoss',
    'BranchFeatureLoss',
    'ClassificationLoss',
    'DKDLoss',
    'HeadDistillationLoss',
    'HintLoss',
    'KDLoss',
    'Loss',
    'MapDistanceLoss',
    'MutualKLLoss',
    'PeerKLLoss',
    'soft_kl',
]
