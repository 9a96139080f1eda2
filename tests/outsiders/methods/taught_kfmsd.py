"""KFMSD with a teacher: all heads also learn from another network."""

from mmkdfuse.models import KFMSD, KDLoss
from mmkdfuse.registry import MODELS


@MODELS.register_module()
class TaughtKFMSD(KFMSD):
    """KFMSD plus the divergence of every head from the teacher's softened probabilities.

    Args:
        kd_weight: Weight of the divergence, >= 0.
        tau: Its temperature, > 0.
        losses: Further losses.
        **kwargs: ``backbone``, ``teacher``, ``gamma``, .. of ``KFMSD``.
    """

    def __init__(self, *, kd_weight=1.0, tau=4.0, losses=(), **kwargs):
        super().__init__(losses=[KDLoss(kd_weight, tau, heads='all'), *losses], **kwargs)
