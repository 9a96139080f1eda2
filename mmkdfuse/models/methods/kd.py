"""Knowledge distillation from softened probabilities (KD)."""

from __future__ import annotations

from typing import Any

from mmkdfuse.models.classifiers.distiller import Distiller
from mmkdfuse.registry import MODELS


@MODELS.register_module()
class KD(Distiller):
    """Cross-entropy with the labels and divergence from the teacher's softened probabilities.

    Hinton, Vinyals, Dean, 2015: ce_weight * CE + kd_weight * tau^2 KL(teacher || student). Default
    weights are 0.1 and 0.9 (RepDistiller, mdistiller); SimKD's and MFAKD's tables use 1 and 1.

    Args:
        ce_weight: Weight of the cross-entropy, >= 0; None where the student or ``losses`` have a
            task loss of their own.
        kd_weight: Weight of the divergence, >= 0.
        tau: Temperature, > 0.
        **kwargs: ``student``, ``teacher``, ``losses``, .. of :class:`Distiller`.

    Example:
        >>> networks = dict(student='resnet8x4', teacher='resnet32x4')
        >>> KD(**networks, num_classes=100, image_size=32).kd_weight
        0.9
    """

    def __init__(
        self,
        *,
        ce_weight: float | None = 0.1,
        kd_weight: float = 0.9,
        tau: float = 4.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            ce_weight=ce_weight, kd_weight=kd_weight, tau=tau if kd_weight else None, **kwargs
        )
