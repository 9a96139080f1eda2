"""Classifiers that train themselves."""

from mmkdfuse.models.classifiers.classifier import Classifier
from mmkdfuse.models.classifiers.kfmsd import KFMSD

__all__ = ['KFMSD', 'Classifier']
