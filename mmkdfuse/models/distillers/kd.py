"""Knowledge distillation of softened scores (KD)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mmkdfuse.models.distillers.base import Distiller
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import NetworkOutput


@MODELS.register_module()
class KD(Distiller):
    """Cross-entropy with the labels and the divergence from the teacher's softened scores.

    Hinton, Vinyals, Dean, 2015: ce_weight * CE + kd_weight * tau^2 KL(teacher || student). Default
    weights are 0.1 and 0.9 (RepDistiller, mdistiller); SimKD's and MFAKD's tables use 1 and 1.

    Args:
        ce_weight: Weight of the cross-entropy, >= 0.
        kd_weight: Weight of the divergence, >= 0.
        **kwargs: ``student``, ``teacher``, ``tau``, .. of :class:`Distiller`.
    """

    asks_stages = slice(0)

    def __init__(self, *, ce_weight: float = 0.1, kd_weight: float = 0.9, **kwargs: Any) -> None:
        super().__init__(ce_weight=ce_weight, kd_weight=kd_weight, **kwargs)

    def terms(
        self, student: NetworkOutput, teachers: Sequence[NetworkOutput], targets: Tensor
    ) -> dict[str, Tensor]:
        """Return nothing: the base's terms are all."""
        return {}
