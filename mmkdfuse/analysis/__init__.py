"""Analyses of networks: arrays and modules in, numbers out."""

from mmkdfuse.analysis.cost import Cost, count_cost
from mmkdfuse.analysis.exit_curve import exit_curve

__all__ = ['Cost', 'count_cost', 'exit_curve']
