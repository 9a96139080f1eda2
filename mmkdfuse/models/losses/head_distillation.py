"""Divergence from one head of a network, which teaches the others (BYOT, FKD)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmkdfuse.models.losses.loss import Loss
from mmkdfuse.models.losses.mutual_kl import check_branches
from mmkdfuse.models.losses.soft_kl import soft_kl
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import MAIN, NetworkInfo, Reads, Step, Taps, head_named


@MODELS.register_module()
class HeadDistillationLoss(Loss):
    """Sum over heads of KL(sg(q_t) || q_i), t the head that teaches, mean over the batch.

    Zhang et al., ICCV 2019, where the main network teaches its branches. Term: ``loss_kl``.

    Args:
        weight: Factor, >= 0.
        teacher_head: Head that teaches all others, as a constant: ``'main'``, ``'last_branch'``, ..
        tau: Temperature, > 0.
        scale_by_tau2: Multiply by tau^2.
        **kwargs: ``warmup_epochs`` of :class:`Loss`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> HeadDistillationLoss(0.3, tau=3.0).teacher_head
        'main'
    """

    def __init__(
        self,
        weight: float = 1.0,
        teacher_head: str = MAIN,
        tau: float = 3.0,
        scale_by_tau2: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(weight, **kwargs)
        if not tau > 0:
            raise ValueError(f'HeadDistillationLoss: tau={tau} must be positive.')
        self.teacher_head, self.tau, self.scale_by_tau2 = teacher_head, tau, scale_by_tau2
        self.reads = Reads(student=Taps(logits='all'))

    def connect(self, student: NetworkInfo, teachers: Sequence[NetworkInfo]) -> None:
        """Check that there are heads to teach."""
        check_branches('HeadDistillationLoss', student, same_classes=True)
        self._teacher = head_named(self.teacher_head, student.heads, 'HeadDistillationLoss')

    def terms(self, step: Step) -> Mapping[str, Tensor]:
        """Return ``loss_kl``."""
        logits = dict(step.student.head_logits)
        teacher = logits.pop(self._teacher).detach()
        students = torch.stack(list(logits.values()))
        divergence = soft_kl(teacher.expand_as(students), students, self.tau)
        weight = self.weight_at(step) * (self.tau**2 if self.scale_by_tau2 else 1)
        return {'loss_kl': weight * len(students) * divergence}
