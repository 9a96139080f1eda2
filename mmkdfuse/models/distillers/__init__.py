"""Methods that train a student with a teacher, one per file."""

from mmkdfuse.models.distillers.base import Distiller
from mmkdfuse.models.distillers.dkd import DKD
from mmkdfuse.models.distillers.fitnet import FitNet
from mmkdfuse.models.distillers.kd import KD
from mmkdfuse.models.distillers.mfakd import MFAKD
from mmkdfuse.models.distillers.simkd import SimKD

__all__ = ['DKD', 'KD', 'MFAKD', 'Distiller', 'FitNet', 'SimKD']
