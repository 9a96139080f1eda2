"""Analyses of networks: arrays and modules in, numbers out."""

from mmkdfuse.analysis.cost import Cost, count_cost

__all__ = ['Cost', 'count_cost']
