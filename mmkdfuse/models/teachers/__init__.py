"""Teachers: trained networks, frozen, verified and fast."""

from mmkdfuse.models.teachers.network_spec import NetworkSpec, resolve_network
from mmkdfuse.models.teachers.teacher import Teacher, attach

__all__ = ['NetworkSpec', 'Teacher', 'attach', 'resolve_network']
