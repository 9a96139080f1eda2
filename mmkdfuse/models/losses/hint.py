"""Hints from an inner stage (FitNet)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from mmkdfuse.models.losses.map_distance import MapDistanceLoss, pooled_to
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import (
    NetworkInfo,
    NetworkOutput,
    Reads,
    StageName,
    StageShape,
    Step,
    Taps,
    stage_number,
)


class HintRegressor(BaseModule):
    """Convolution, batch norm and ReLU that bring the student's map to the teacher's shape.

    The convolution is RepDistiller's, in the last case SimKD's:

    - 3x3 with stride 2 where the student's side is twice the teacher's
    - 4x4 transposed with stride 2 where it is half
    - kernel 1 + H_s - H_t where it is equal (1x1) or otherwise larger
    - 3x3 where it is otherwise smaller; the teacher's map is then pooled

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
class HintLoss(MapDistanceLoss):
    """MSE between one regressed student map and the teacher's map of the same stage.

    Romero et al., ICLR 2015. Several teachers give several regressors and the mean of their losses.
    Where no regressor reaches the teacher's size, its map is pooled. Term: ``loss_hint``.

    Args:
        weight: Factor of the MSE (mean over all elements), >= 0.
        stage: Stage of both networks whose maps are compared: from 1, from the end (-1), or a name
            (``'stage2'``).
        normalize: None for the printed form; ``'variance'`` divides the error by the variance of
            the teacher's map over the training set (:class:`TargetVariance`).
        **kwargs: ``warmup_epochs`` of :class:`Loss`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> HintLoss(stage=-1).reads.teacher.stages
        -1
    """

    def __init__(
        self,
        weight: float = 100.0,
        stage: StageName = 2,
        normalize: str | None = None,
        **kwargs,
    ) -> None:
        super().__init__(weight, normalize, **kwargs)
        self.stage = stage
        self.reads = Reads(student=Taps(stages=stage), teacher=Taps(stages=stage))

    def connect(self, student: NetworkInfo, teachers: Sequence[NetworkInfo]) -> None:
        """Build one regressor for every teacher."""
        if not teachers:
            raise ValueError('HintLoss: teacher=None, expected at least one teacher to learn from.')
        shapes = [
            info.stage_shapes[stage_number(self.stage, len(info.stage_shapes), 'HintLoss') - 1]
            for info in (student, *teachers)
        ]
        self.regressors = ModuleList(HintRegressor(shapes[0], target) for target in shapes[1:])
        self.expect(len(teachers))

    def target_of(self, teacher: NetworkOutput) -> Tensor:
        """Hint of a teacher."""
        return teacher.stage(self.stage)

    def pairs(self, step: Step) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield regressed map and hint for every teacher."""
        for regressor, teacher in zip(self.regressors, step.teachers, strict=True):
            regressed = regressor(step.student.stage(self.stage)).float()
            yield regressed, pooled_to(self.target_of(teacher).float(), regressed)

    def terms(self, step: Step) -> Mapping[str, Tensor]:
        """Return ``loss_hint``."""
        distances = self.in_units([F.mse_loss(*pair) for pair in self.pairs(step)])
        return {'loss_hint': self.weight_at(step) * torch.stack(distances).mean()}
