"""Connectors: modules that bring a student's map to the shape of the teacher's."""

from mmkdfuse.models.connectors.mbca import MBCAConnector

__all__ = ['MBCAConnector']
