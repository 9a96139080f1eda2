"""Many runs: suites of rows that are trained in order of value."""

from mmkdfuse.sweeps.reproduction import reproduce
from mmkdfuse.sweeps.suite import Row, Suite

__all__ = ['Row', 'Suite', 'reproduce']
