"""KD whose weight grows with the epoch along a Gaussian (Laine and Aila, ICLR 2017)."""

import math

import torch

from mmkdfuse.models import Distiller, KDLoss
from mmkdfuse.registry import MODELS


@MODELS.register_module()
class RampedKDLoss(KDLoss):
    """KDLoss with the weight * exp(-5 (1 - t)^2), t the share of the epochs up to the present one.

    The weight is logged as ``kd_weight``.
    """

    def weight_at(self, step):
        t = (step.epoch + 1) / step.max_epochs if step.max_epochs else 1.0
        return super().weight_at(step) * math.exp(-5 * (1 - t) ** 2)

    def terms(self, step):
        return dict(super().terms(step), kd_weight=torch.tensor(self.weight_at(step)))


@MODELS.register_module()
class RampedKD(Distiller):
    """Task loss and RampedKDLoss.

    Args:
        weight: Weight of the divergence in the last epoch, >= 0.
        tau: Its temperature, > 0.
        losses: Further losses.
        **kwargs: ``student``, ``teacher``, .. of ``Distiller``.
    """

    def __init__(self, *, weight=1.0, tau=4.0, losses=(), **kwargs):
        super().__init__(losses=[RampedKDLoss(weight, tau), *losses], **kwargs)
