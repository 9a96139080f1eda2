"""Distance between an aligned student map and a teacher's last map (MFAKD, SimKD)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmkdfuse.models.losses.map_distance import MapDistanceLoss, pooled_to
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import NetworkInfo, NetworkOutput, Reads, Step, Taps


def aligned_key(teacher: int) -> str:
    """Key of the student's map that is aligned to a teacher's, counted from 1."""
    return f'aligned{teacher}'


def root_mean_square(aligned: Tensor, target: Tensor) -> Tensor:
    """Root of the mean squared difference; its gradient is 0, not NaN, where they are equal."""
    return torch.linalg.vector_norm(aligned - target) / target.numel() ** 0.5


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    'mse': F.mse_loss,
    'smooth_l1': F.smooth_l1_loss,
    'rmse': root_mean_square,
}


@MODELS.register_module()
class AlignmentLoss(MapDistanceLoss):
    """Distance between the student's aligned map and the teacher's last map.

    Paper 001, eq. 5. The alignment target is the map that the teacher's classifier pools, after its
    activation. It is never resized, except where the aligned map is smaller (``upsample=None``):
    then it is pooled. Several teachers give the mean of their distances. Term: ``loss_align``.

    Args:
        weight: alpha, factor of the distance, >= 0.
        distance: ``'mse'`` (mean over all elements), ``'smooth_l1'`` or ``'rmse'``.
        teachers: Number of teachers, each with an aligned map ``aligned1``, ``aligned2``, ..
        normalize: None for the printed form. ``'variance'`` divides the distance by the variance of
            the teacher's map over the training set, or its root for ``'rmse'``. Alpha then means
            the same for every teacher (:class:`TargetVariance`).
        **kwargs: ``warmup_epochs`` of :class:`Loss`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> AlignmentLoss(teachers=2).reads.student.maps
        ('aligned1', 'aligned2')
    """

    def __init__(
        self,
        weight: float = 1.0,
        distance: str = 'mse',
        teachers: int = 1,
        normalize: str | None = None,
        **kwargs,
    ) -> None:
        super().__init__(weight, normalize, **kwargs)
        if distance not in DISTANCES:
            raise ValueError(
                f'AlignmentLoss: distance={distance!r} must be one of {tuple(DISTANCES)}.'
            )
        self.distance = distance
        self.expect(teachers)
        self.keys = tuple(aligned_key(number) for number in range(1, teachers + 1))
        self.reads = Reads(student=Taps(maps=self.keys), teacher=Taps(stages=-1))

    def connect(self, student: NetworkInfo, teachers: Sequence[NetworkInfo]) -> None:
        """Check that there is one aligned map for every teacher."""
        if len(teachers) != len(self.keys):
            raise ValueError(
                f'AlignmentLoss: teachers={len(self.keys)} must be the number of teachers, '
                f'{len(teachers)}.'
            )

    def target_of(self, teacher: NetworkOutput) -> Tensor:
        """Last map of a teacher."""
        return teacher.stage(-1)

    def pairs(self, step: Step) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield aligned map and target for every teacher."""
        for key, teacher in zip(self.keys, step.teachers, strict=True):
            aligned = step.student.map(key).float()
            yield aligned, pooled_to(self.target_of(teacher).float(), aligned)

    def terms(self, step: Step) -> Mapping[str, Tensor]:
        """Return ``loss_align``."""
        distances = [DISTANCES[self.distance](*pair) for pair in self.pairs(step)]
        distances = self.in_units(distances, root=self.distance == 'rmse')
        return {'loss_align': self.weight_at(step) * torch.stack(distances).mean()}
