"""Decoupled knowledge distillation (DKD)."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import MessageHub
from torch import Tensor

from mmkdfuse.models.distillers.base import Distiller, mean_logits
from mmkdfuse.models.losses.soft_kl import soft_kl
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import NetworkOutput


def decoupled_kd(
    teacher_logits: Tensor,
    student_logits: Tensor,
    labels: Tensor,
    alpha: float,
    beta: float,
    tau: float,
) -> Tensor:
    """tau^2 (alpha * TCKD + beta * NCKD) in float32, mean over the batch.

    TCKD is the divergence of [p_y, 1 - p_y], NCKD that of the scores among all other classes.

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
class DKD(Distiller):
    """The divergence of scores split into target class and other classes, weighed apart.

    Zhao et al., CVPR 2022: CE + min(epoch / warmup_epochs, 1) * tau^2 (alpha TCKD + beta NCKD),
    epochs counted from 1. Term: ``loss_dkd`` beside ``loss_ce``. Labels must be hard.

    Args:
        alpha: Weight of the target class's divergence, >= 0; the authors' 1.
        beta: Weight of the other classes', >= 0; the authors choose 2 to 8 by the pair of networks.
        warmup_epochs: Epochs over which the term grows, >= 1.
        **kwargs: ``student``, ``teacher``, ``tau``, .. of :class:`Distiller`.

    Raises:
        ValueError: If an argument is out of range.
    """

    asks_stages = slice(0)

    def __init__(
        self, *, alpha: float = 1.0, beta: float = 8.0, warmup_epochs: int = 20, **kwargs: Any
    ) -> None:
        if alpha < 0 or beta < 0:
            raise ValueError(f'DKD: alpha={alpha} and beta={beta} must be >= 0.')
        if warmup_epochs < 1:
            raise ValueError(f'DKD: warmup_epochs={warmup_epochs} must be at least 1.')
        super().__init__(**kwargs)
        self.alpha, self.beta, self.warmup_epochs = alpha, beta, warmup_epochs

    def terms(
        self, student: NetworkOutput, teachers: Sequence[NetworkOutput], targets: Tensor
    ) -> dict[str, Tensor]:
        """Return ``loss_dkd``."""
        if targets.ndim != 1:
            raise ValueError(
                f'DKD: labels of shape {tuple(targets.shape)} mix classes, expected one label an '
                'image: leave out batch augmentations such as Mixup.'
            )
        epoch = MessageHub.get_current_instance().runtime_info.get('epoch', 0) + 1
        growth = min(epoch / self.warmup_epochs, 1.0)
        loss = decoupled_kd(
            mean_logits(teachers), student.logits[-1], targets, self.alpha, self.beta, self.tau
        )
        return {'loss_dkd': growth * loss}
