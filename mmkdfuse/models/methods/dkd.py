"""Decoupled knowledge distillation (DKD)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmkdfuse.models.classifiers.distiller import Distiller
from mmkdfuse.models.losses.dkd import DKDLoss
from mmkdfuse.registry import MODELS


@MODELS.register_module()
class DKD(Distiller):
    """Divergence with separate weights for the target class and for all other classes.

    Zhao et al., CVPR 2022: CE + min(epoch / warmup_epochs, 1) * tau^2 (alpha TCKD + beta NCKD),
    epochs counted from 1. Term: ``loss_dkd`` beside ``loss_ce``. Labels must be hard.

    Args:
        alpha: Weight of the target class's divergence, >= 0; the authors' 1.
        beta: Weight of the other classes', >= 0; the authors choose 2 to 8 by the pair of networks.
        warmup_epochs: Epochs over which the term grows, >= 1.
        tau: Temperature, > 0.
        losses: Further losses.
        **kwargs: ``student``, ``teacher``, ``ce_weight``, .. of :class:`Distiller`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> networks = dict(student='resnet8x4', teacher='resnet32x4')
        >>> sorted(DKD(**networks, num_classes=100, image_size=32).losses)
        ['ClassificationLoss', 'DKDLoss']
    """

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        beta: float = 8.0,
        warmup_epochs: int = 20,
        tau: float = 4.0,
        losses: Sequence = (),
        **kwargs: Any,
    ) -> None:
        if alpha < 0 or beta < 0:
            raise ValueError(f'DKD: alpha={alpha} and beta={beta} must be >= 0.')
        if not isinstance(warmup_epochs, int) or warmup_epochs < 1:
            raise ValueError(f'DKD: warmup_epochs={warmup_epochs} must be at least 1.')
        own = DKDLoss(alpha=alpha, beta=beta, tau=tau, warmup_epochs=warmup_epochs)
        super().__init__(losses=[own, *losses], tau=None, **kwargs)
        self.alpha, self.beta, self.warmup_epochs = alpha, beta, warmup_epochs
