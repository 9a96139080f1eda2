"""Divergence from a teacher's softened probabilities (KD)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmkdfuse.models.losses.loss import Loss
from mmkdfuse.models.losses.soft_kl import soft_kl
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import NetworkInfo, NetworkOutput, Reads, Step, Taps


def mean_logits(teachers: Sequence[NetworkOutput]) -> Tensor:
    """Mean of the logits of all heads that are read of all teachers, (N, K)."""
    logits = [each for teacher in teachers for each in teacher.head_logits.values()]
    return torch.stack(logits).mean(dim=0)


def check_class_counts(name: str, student: NetworkInfo, teachers: Sequence[NetworkInfo]) -> None:
    """Raise if there is no teacher, or one has other classes than the student."""
    if not teachers:
        raise ValueError(f'{name}: teacher=None, expected at least one teacher to learn from.')
    for teacher in teachers:
        if teacher.num_classes != student.num_classes:
            raise ValueError(
                f'teacher={teacher.name!r} has {teacher.num_classes} classes, expected those of '
                f'the student, num_classes={student.num_classes}.'
            )


@MODELS.register_module()
class KDLoss(Loss):
    """weight * tau^2 KL(softmax(teacher / tau) || softmax(student / tau)), mean over the batch.

    Hinton, Vinyals, Dean, 2015. Logits of several teachers are averaged. Term: ``loss_kd``.

    Args:
        weight: Factor, >= 0.
        tau: Temperature, > 0.
        heads: Heads of the student that learn; their divergences are summed.
        teacher_heads: Heads of the teacher that teach, averaged.
        **kwargs: ``warmup_epochs`` of :class:`Loss`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> KDLoss(weight=0.9, tau=4.0).tau
        4.0
    """

    def __init__(
        self,
        weight: float = 1.0,
        tau: float = 4.0,
        heads: str | Sequence[str] = 'main',
        teacher_heads: str | Sequence[str] = 'main',
        **kwargs,
    ) -> None:
        super().__init__(weight, **kwargs)
        if not tau > 0:
            raise ValueError(f'KDLoss: tau={tau} must be positive.')
        self.tau = tau
        self.reads = Reads(student=Taps(logits=heads), teacher=Taps(logits=teacher_heads))

    def connect(self, student: NetworkInfo, teachers: Sequence[NetworkInfo]) -> None:
        """Check the class counts."""
        check_class_counts('KDLoss', student, teachers)

    def terms(self, step: Step) -> Mapping[str, Tensor]:
        """Return ``loss_kd``."""
        target = mean_logits(step.teachers)
        divergences = [
            soft_kl(target, logits, self.tau) for logits in step.student.head_logits.values()
        ]
        divergence = sum(divergences[1:], start=divergences[0])
        return {'loss_kd': self.weight_at(step) * self.tau**2 * divergence}
