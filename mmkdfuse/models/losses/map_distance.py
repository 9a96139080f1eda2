"""Base class of losses that compare a map of the student with a map of every teacher."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from mmengine.model import ModuleList
from torch import Tensor

from mmkdfuse.models.losses.loss import Loss
from mmkdfuse.models.losses.target_variance import TargetVariance, channel_variance
from mmkdfuse.structures import NetworkOutput, Step

NORMALIZE = (None, 'variance')


class MapDistanceLoss(Loss):
    """Base class of losses between a student map and a target map of every teacher.

    A subclass calls :meth:`expect` once it knows the number of teachers, and names the compared
    maps by :meth:`target_of` and :meth:`pairs`.

    Args:
        weight: Factor, >= 0.
        normalize: None for the distance as it is; ``'variance'`` for units of the target's variance
            over the training set (:class:`TargetVariance`).
        **kwargs: ``warmup_epochs`` of :class:`Loss`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from mmkdfuse.models import AlignmentLoss
        >>> loss = AlignmentLoss(normalize='variance')
        >>> isinstance(loss, MapDistanceLoss), loss.needs_observation
        (True, True)
    """

    def __init__(self, weight: float = 1.0, normalize: str | None = None, **kwargs) -> None:
        super().__init__(weight, **kwargs)
        if normalize not in NORMALIZE:
            raise ValueError(
                f'{type(self).__name__}: normalize={normalize!r} must be one of {NORMALIZE}.'
            )
        self.normalize = normalize
        self.variances = ModuleList()

    def expect(self, teachers: int) -> None:
        """Make room for the variances of this many targets."""
        if self.normalize:
            self.variances.extend(TargetVariance() for _ in range(teachers))

    def target_of(self, teacher: NetworkOutput) -> Tensor:
        """Target map of a teacher, (N, C, H, W)."""
        raise NotImplementedError

    def pairs(self, step: Step) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the student's map and the target for every teacher, of one shape, in float32."""
        raise NotImplementedError

    def in_units(self, distances: Sequence[Tensor], root: bool = False) -> list[Tensor]:
        """Return distances in units of the variance, or of its root, where ``normalize`` is set."""
        if not self.normalize:
            return list(distances)
        units = [each.variance.sqrt() if root else each.variance for each in self.variances]
        return [distance / unit for distance, unit in zip(distances, units, strict=True)]

    @property
    def needs_observation(self) -> bool:
        """Whether a variance is yet to be measured."""
        return not all(variance.is_measured for variance in self.variances)

    def observe(self, teachers: Sequence[NetworkOutput]) -> None:
        """Take in the teachers' outputs on some training images."""
        for variance, teacher in zip(self.variances, teachers, strict=True):
            variance.observe(self.target_of(teacher))

    def conclude(self) -> None:
        """Compute the variances."""
        for variance in self.variances:
            variance.conclude()

    def diagnose(self, step: Step) -> Mapping[str, Tensor]:
        """Return ``unexplained``: mean squared error over the variance of the batch's target."""
        shares = [F.mse_loss(*pair) / channel_variance(pair[1]) for pair in self.pairs(step)]
        return {'unexplained': torch.stack(shares).mean()}


def pooled_to(target: Tensor, student_map: Tensor) -> Tensor:
    """Average-pool a target to the size of a student's map, where they differ."""
    size = (student_map.shape[2], student_map.shape[3])
    return target if target.shape[2:] == size else F.adaptive_avg_pool2d(target, size)
