"""FitNet: hints from an inner stage."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from mmkdfuse.models.distillers.base import Distiller
from mmkdfuse.models.probe import StageShape
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import NetworkOutput


class HintRegressor(BaseModule):
    """Brings the student's map to the teacher's shape: one convolution, batch norm, ReLU.

    3x3 stride 2 where the student's side is twice the teacher's, 4x4 transposed stride 2 where it
    is half, a kernel of 1 + H_s - H_t where it is equal (1x1) or larger otherwise, and 3x3 where it
    is smaller otherwise, with the teacher's map pooled instead (RepDistiller; the last case SimKD).

    Args:
        student_shape: (C_s, H_s, W_s).
        teacher_shape: (C_t, H_t, W_t).
    """

    def __init__(self, student_shape: StageShape, teacher_shape: StageShape) -> None:
        super().__init__()
        (c_s, h_s, _), (c_t, h_t, _) = student_shape, teacher_shape
        conv: nn.Module
        if h_s == 2 * h_t:
            conv = nn.Conv2d(c_s, c_t, 3, 2, 1)
        elif 2 * h_s == h_t:
            conv = nn.ConvTranspose2d(c_s, c_t, 4, 2, 1)
        elif h_s >= h_t:
            conv = nn.Conv2d(c_s, c_t, 1 + h_s - h_t)
        else:
            conv = nn.Conv2d(c_s, c_t, 3, 1, 1)
        self.layers = nn.Sequential(conv, nn.BatchNorm2d(c_t), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """Return the regressed map, (N, C_t, H_t, W_t), or of the student's size (last case)."""
        return self.layers(x)


@MODELS.register_module()
class FitNet(Distiller):
    """MSE between one regressed student map and the teacher's map of the same stage.

    Romero et al., ICLR 2015, trained jointly as in all benchmarks (the paper: in two stages).
    Several teachers give several regressors and the mean of their losses. Terms: ``loss_ce``,
    ``loss_hint``.

    Args:
        hint_weight: Weight of the MSE (mean over all elements), > 0.
        stage: Stage of both networks whose maps are compared, from 1 (RepDistiller: 2).
        **kwargs: ``student``, ``teacher``, ``kd_weight``, .. of :class:`Distiller`.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, *, hint_weight: float = 100.0, stage: int = 2, **kwargs: Any) -> None:
        if not hint_weight > 0:
            raise ValueError(f'FitNet: hint_weight={hint_weight} must be positive.')
        super().__init__(**kwargs)
        shapes = [self.stage_shapes, *(teacher.stage_shapes for teacher in self.teachers)]
        last = min(map(len, shapes))
        if not 1 <= stage <= last:
            raise ValueError(f'FitNet: stage={stage} must be from 1 to {last}.')
        self.hint_weight, self.stage = hint_weight, stage
        self.regressors = ModuleList(
            HintRegressor(self.stage_shapes[stage - 1], teacher[stage - 1])
            for teacher in shapes[1:]
        )

    def terms(
        self, student: NetworkOutput, teachers: Sequence[NetworkOutput], targets: Tensor
    ) -> dict[str, Tensor]:
        """Return ``loss_hint``."""
        distances = []
        for regressor, teacher in zip(self.regressors, teachers, strict=True):
            regressed = regressor(student.stages[self.stage - 1]).float()
            hint = teacher.stages[self.stage - 1].float()
            if hint.shape[2:] != regressed.shape[2:]:
                hint = F.adaptive_avg_pool2d(hint, (regressed.shape[2], regressed.shape[3]))
            distances.append(F.mse_loss(regressed, hint))
        return {'loss_hint': self.hint_weight * torch.stack(distances).mean()}
