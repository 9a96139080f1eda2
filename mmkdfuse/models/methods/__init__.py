"""Methods by name, one paper a file: presets of networks and losses."""

from mmkdfuse.models.methods.byot import BYOT
from mmkdfuse.models.methods.dkd import DKD
from mmkdfuse.models.methods.dml import DML
from mmkdfuse.models.methods.fitnet import FitNet
from mmkdfuse.models.methods.fkd import FKD
from mmkdfuse.models.methods.kd import KD
from mmkdfuse.models.methods.kfmsd import KFMSD
from mmkdfuse.models.methods.mfakd import MFAKD
from mmkdfuse.models.methods.simkd import SimKD

__all__ = ['BYOT', 'DKD', 'DML', 'FKD', 'KD', 'KFMSD', 'MFAKD', 'FitNet', 'SimKD']
