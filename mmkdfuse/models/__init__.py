"""Networks, their parts and the methods that train them."""

from mmkdfuse.models.classifiers import KFMSD, Classifier
from mmkdfuse.models.heads import BranchHead
from mmkdfuse.models.losses import BranchFeatureLoss, MutualKLLoss
from mmkdfuse.models.necks import KFM, KFMNeck

__all__ = [
    'KFM',
    'KFMSD',
    'BranchFeatureLoss',
    'BranchHead',
    'Classifier',
    'KFMNeck',
    'MutualKLLoss',
]
