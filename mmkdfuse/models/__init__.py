"""Networks, their parts and the methods that train them."""

from mmkdfuse.models.backbones import VGG, MobileNetV1, ResNeXt_CIFAR, SqueezeNet
from mmkdfuse.models.classifiers import BYOT, DML, FKD, KFMSD, Classifier, MultiHeadClassifier
from mmkdfuse.models.connectors import MBCAConnector
from mmkdfuse.models.heads import BranchHead
from mmkdfuse.models.losses import BranchFeatureLoss, MutualKLLoss
from mmkdfuse.models.necks import KFM, BYOTNeck, FKDNeck, KFMNeck

__all__ = [
    'BYOT',
    'BYOTNeck',
    'BranchFeatureLoss',
    'BranchHead',
    'Classifier',
    'DML',
    'FKD',
    'FKDNeck',
    'KFM',
    'KFMNeck',
    'KFMSD',
    'MBCAConnector',
    'MobileNetV1',
    'MultiHeadClassifier',
    'MutualKLLoss',
    'ResNeXt_CIFAR',
    'SqueezeNet',
    'VGG',
]
