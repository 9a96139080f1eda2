"""Networks, their parts, losses, and the methods that put them together."""

from mmkdfuse.models import inference as _inference  # noqa: F401  registers
from mmkdfuse.models.backbones import VGG, MobileNetV1, ResNeXt_CIFAR, SqueezeNet
from mmkdfuse.models.classifiers import (
    BranchedClassifier,
    Classifier,
    Distiller,
    Network,
    PeerClassifier,
    Trainable,
)
from mmkdfuse.models.connectors import MBCAConnector
from mmkdfuse.models.heads import BranchHead
from mmkdfuse.models.losses import (
    AlignmentLoss,
    BranchFeatureLoss,
    ClassificationLoss,
    DKDLoss,
    HeadDistillationLoss,
    HintLoss,
    KDLoss,
    Loss,
    MutualKLLoss,
    PeerKLLoss,
)
from mmkdfuse.models.methods import BYOT, DKD, DML, FKD, KD, KFMSD, MFAKD, FitNet, SimKD
from mmkdfuse.models.necks import KFM, AlignedNeck, BYOTNeck, FKDNeck, KFMNeck

__all__ = [
    'AlignedNeck',
    'AlignmentLoss',
    'BYOT',
    'BYOTNeck',
    'BranchFeatureLoss',
    'BranchHead',
    'BranchedClassifier',
    'ClassificationLoss',
    'Classifier',
    'DKD',
    'DKDLoss',
    'DML',
    'Distiller',
    'FKD',
    'FKDNeck',
    'FitNet',
    'HeadDistillationLoss',
    'HintLoss',
    'KD',
    'KDLoss',
    'KFM',
    'KFMNeck',
    'KFMSD',
    'Loss',
    'MBCAConnector',
    'MFAKD',
    'MobileNetV1',
    'MutualKLLoss',
    'Network',
    'PeerClassifier',
    'PeerKLLoss',
    'ResNeXt_CIFAR',
    'SimKD',
    'SqueezeNet',
    'Trainable',
    'VGG',
]
