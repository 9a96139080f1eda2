"""Modules that only ship: folded, truncated and merged networks, and their configs."""

from mmkdfuse.models.inference.branch_path import BranchPath
from mmkdfuse.models.inference.ensemble_head import EnsembleHead
from mmkdfuse.models.inference.folded_classifier import FoldedClassifier
from mmkdfuse.models.inference.merged_mbca import MergedMBCAConnector
from mmkdfuse.models.inference.truncated_backbone import TruncatedBackbone

__all__ = [
    'BranchPath',
    'EnsembleHead',
    'FoldedClassifier',
    'MergedMBCAConnector',
    'TruncatedBackbone',
]
