"""FitNet: hints from an inner stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmkdfuse.models.classifiers.distiller import Distiller
from mmkdfuse.models.losses.hint import HintLoss
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import StageName


@MODELS.register_module()
class FitNet(Distiller):
    """MSE between one regressed student map and the teacher's map of the same stage.

    Romero et al., ICLR 2015, trained jointly as in all benchmarks (the paper: in two stages).
    Several teachers give several regressors and the mean of their losses. Terms: ``loss_ce``,
    ``loss_hint``.

    Args:
        hint_weight: Weight of the MSE (mean over all elements), > 0.
        stage: Stage of both networks whose maps are compared, from 1 (RepDistiller: 2), or from the
            end (-1).
        normalize: As for :class:`MFAKD`.
        losses: Further losses.
        **kwargs: ``student``, ``teacher``, ``kd_weight``, .. of :class:`Distiller`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> networks = dict(student='resnet8x4', teacher='resnet32x4')
        >>> sorted(FitNet(**networks, num_classes=100, image_size=32).losses)
        ['ClassificationLoss', 'HintLoss']
    """

    moved_weights = {'regressors.': 'losses.HintLoss.regressors.'}

    def __init__(
        self,
        *,
        hint_weight: float = 100.0,
        stage: StageName = 2,
        normalize: str | None = None,
        losses: Sequence = (),
        **kwargs: Any,
    ) -> None:
        if not hint_weight > 0:
            raise ValueError(f'FitNet: hint_weight={hint_weight} must be positive.')
        super().__init__(losses=[HintLoss(hint_weight, stage, normalize), *losses], **kwargs)
        self.hint_weight, self.stage = hint_weight, stage
