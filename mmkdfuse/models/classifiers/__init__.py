"""Networks: plain, branched, side by side, with reused classifiers, and with teachers."""

from mmkdfuse.models.classifiers.aligned import AlignedClassifier
from mmkdfuse.models.classifiers.branched import BranchedClassifier
from mmkdfuse.models.classifiers.classifier import Classifier
from mmkdfuse.models.classifiers.distiller import Distiller
from mmkdfuse.models.classifiers.network import Export, Network
from mmkdfuse.models.classifiers.peers import PeerClassifier
from mmkdfuse.models.classifiers.trainable import Trainable

__all__ = [
    'AlignedClassifier',
    'BranchedClassifier',
    'Classifier',
    'Distiller',
    'Export',
    'Network',
    'PeerClassifier',
    'Trainable',
]
