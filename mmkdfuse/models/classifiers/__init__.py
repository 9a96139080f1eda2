"""Classifiers that train themselves."""

from mmkdfuse.models.classifiers.byot import BYOT
from mmkdfuse.models.classifiers.classifier import Classifier
from mmkdfuse.models.classifiers.dml import DML
from mmkdfuse.models.classifiers.fkd import FKD
from mmkdfuse.models.classifiers.folded import FoldedClassifier
from mmkdfuse.models.classifiers.kfmsd import KFMSD
from mmkdfuse.models.classifiers.multi_head import MultiHeadClassifier

__all__ = ['BYOT', 'DML', 'FKD', 'KFMSD', 'Classifier', 'FoldedClassifier', 'MultiHeadClassifier']
