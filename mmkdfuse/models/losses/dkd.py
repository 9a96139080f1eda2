"""Decoupled knowledge distillation: target class and other classes apart (DKD)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmkdfuse.models.losses.kd import check_class_counts, mean_logits
from mmkdfuse.models.losses.loss import Loss
from mmkdfuse.models.losses.soft_kl import soft_kl
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import NetworkInfo, Reads, Step, Taps


def decoupled_kd(
    teacher_logits: Tensor,
    student_logits: Tensor,
    labels: Tensor,
    alpha: float,
    beta: float,
    tau: float,
) -> Tensor:
    """tau^2 (alpha * TCKD + beta * NCKD) in float32, mean over the batch.

    TCKD is the divergence of [p_y, 1 - p_y], NCKD that of the probabilities among all other
    classes.

    Args:
        teacher_logits: (N, K).
        student_logits: (N, K).
        labels: (N,) int64.
        alpha: Weight of TCKD.
        beta: Weight of NCKD.
        tau: Temperature, > 0.
    """
    own = labels[:, None]
    # Columns of all other classes. Gathered, because picking by a mask would wait for the device.
    columns = torch.arange(student_logits.shape[1] - 1, device=labels.device)
    other = columns + (columns >= own)
    pairs, rests = [], []
    for logits in (teacher_logits.float(), student_logits.float()):
        rest = logits.gather(1, other)
        # Logits of two classes whose softmax is [p_y, 1 - p_y].
        total = (rest / tau).logsumexp(dim=1, keepdim=True)
        pairs.append(torch.cat([logits.gather(1, own) / tau, total], dim=1))
        rests.append(rest)
    tckd = soft_kl(pairs[0], pairs[1])
    nckd = soft_kl(rests[0], rests[1], tau)
    return tau**2 * (alpha * tckd + beta * nckd)


@MODELS.register_module()
class DKDLoss(Loss):
    """Divergence with separate weights for the target class and for all other classes.

    Zhao et al., CVPR 2022: tau^2 (alpha TCKD + beta NCKD), see :func:`decoupled_kd`. Labels must be
    hard. Term: ``loss_dkd``.

    Args:
        weight: Factor of the whole, >= 0.
        alpha: Weight of the target class's divergence, >= 0; the authors' 1.
        beta: Weight of the other classes', >= 0; the authors choose 2 to 8 by the pair of networks.
        tau: Temperature, > 0.
        warmup_epochs: Epochs over which the term grows, the authors' 20.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> DKDLoss(beta=2.0).warmup_epochs
        20
    """

    def __init__(
        self,
        weight: float = 1.0,
        alpha: float = 1.0,
        beta: float = 8.0,
        tau: float = 4.0,
        warmup_epochs: int = 20,
    ) -> None:
        super().__init__(weight, warmup_epochs)
        if alpha < 0 or beta < 0:
            raise ValueError(f'DKDLoss: alpha={alpha} and beta={beta} must be >= 0.')
        if not tau > 0:
            raise ValueError(f'DKDLoss: tau={tau} must be positive.')
        self.alpha, self.beta, self.tau = alpha, beta, tau
        logits = Taps(logits='main')
        self.reads = Reads(student=logits, teacher=logits, targets=True)

    def connect(self, student: NetworkInfo, teachers: Sequence[NetworkInfo]) -> None:
        """Check the class counts."""
        check_class_counts('DKDLoss', student, teachers)

    def terms(self, step: Step) -> Mapping[str, Tensor]:
        """Return ``loss_dkd``."""
        targets = step.targets
        assert targets is not None
        if targets.ndim != 1:
            raise ValueError(
                f'DKDLoss: labels of shape {tuple(targets.shape)} mix classes, expected one label '
                'an image: leave out train_cfg with batch augmentations such as Mixup.'
            )
        teacher, student = mean_logits(step.teachers), step.student.logits
        if step.num_views > 1:  # the images themselves come first
            teacher, student = teacher[: len(targets)], student[: len(targets)]
        loss = decoupled_kd(
            teacher,
            student,
            targets,
            self.alpha,
            self.beta,
            self.tau,
        )
        return {'loss_dkd': self.weight_at(step) * loss}
