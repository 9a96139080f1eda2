"""Connectors: what brings a student's map to the shape of the teacher's."""

from mmkdfuse.models.connectors.mbca import MBCAConnector
from mmkdfuse.models.connectors.merged_mbca import MergedMBCAConnector

__all__ = ['MBCAConnector', 'MergedMBCAConnector']
