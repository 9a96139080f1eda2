"""Metrics."""

from mmkdfuse.evaluation.ensemble_accuracy import EnsembleAccuracy

__all__ = ['EnsembleAccuracy']
