"""Networks, their parts and the methods that train them."""

from mmkdfuse.models.backbones import VGG, MobileNetV1, ResNeXt_CIFAR, SqueezeNet
from mmkdfuse.models.classifiers import BYOT, DML, FKD, KFMSD, Classifier, MultiHeadClassifier
from mmkdfuse.models.connectors import MBCAConnector
from mmkdfuse.models.distillers import DKD, KD, MFAKD, Distiller, FitNet, SimKD
from mmkdfuse.models.heads import BranchHead
from mmkdfuse.models.losses import BranchFeatureLoss, MutualKLLoss
from mmkdfuse.models.necks import KFM, AlignedNeck, BYOTNeck, FKDNeck, KFMNeck

__all__ = [
    'AlignedNeck',
    'BYOT',
    'BYOTNeck',
    'BranchFeatureLoss',
    'BranchHead',
    'Classifier',
    'DKD',
    'DML',
    'Distiller',
    'FKD',
    'FKDNeck',
    'FitNet',
    'KD',
    'KFM',
    'KFMNeck',
    'KFMSD',
    'MBCAConnector',
    'MFAKD',
    'MobileNetV1',
    'MultiHeadClassifier',
    'MutualKLLoss',
    'ResNeXt_CIFAR',
    'SimKD',
    'SqueezeNet',
    'VGG',
]
