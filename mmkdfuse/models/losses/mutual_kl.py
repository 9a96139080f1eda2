"""Mutual self-distillation loss of KFMSD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmkdfuse.models.losses.loss import Loss
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import MAIN, NetworkInfo, Reads, Step, Taps

DIRECTIONS = ('both', 'to_main', 'to_branches')


def check_branches(name: str, student: NetworkInfo, same_classes: bool = False) -> None:
    """Raise if a network has no head beside the main one, or heads of different classes."""
    if len(student.heads) < 2:
        raise ValueError(
            f'{name}: student={student.name!r} has no branches, expected a network with several '
            'heads such as KFMSD.'
        )
    if same_classes:
        counts = {student.shapes(f'logits.{head}')[0] for head in student.heads}
        if len(counts) > 1:
            raise ValueError(
                f'{name}: the heads have {" and ".join(map(str, sorted(counts)))} classes, '
                'expected one number, because they teach one another: leave out branch_classes or '
                'this loss.'
            )


@MODELS.register_module()
class MutualKLLoss(Loss):
    """Kullback-Leibler divergence, both ways, between the main network and every branch.

    Paper 000, eq. 8: sum_i KL(q_i || q_M) + KL(q_M || q_i), q = softmax(z / tau), natural
    logarithm, sum over classes, mean over the batch. The paper leaves open whether the side that
    teaches is detached: by default it is (DML's convention), i.e. KL(sg(q_M) || q_i) teaches branch
    i and KL(sg(q_i) || q_M) teaches the main network. The value is the same either way.

    Term: ``loss_mutual_kl``.

    Args:
        tau: Temperature, > 0; the paper's 3.
        detach_target: Stop the gradient through the first argument of each divergence.
        scale_by_tau2: Multiply by tau^2 as in Hinton's KD; eq. 8 does not.
        direction: ``'both'``; or one half of eq. 8: ``'to_main'``, only KL(q_i || q_M) (branches
            teach the main network), or ``'to_branches'``, only KL(q_M || q_i).
        weight: Factor of the term, >= 0; gamma of KFMSD.
        **kwargs: ``warmup_epochs`` of :class:`Loss`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> main, branches = torch.tensor([[2.0, 0.0]]), [torch.tensor([[0.0, 2.0]])]
        >>> round(MutualKLLoss(tau=1.0)(main, branches).item(), 4)
        3.0464
    """

    def __init__(
        self,
        tau: float = 3.0,
        detach_target: bool = True,
        scale_by_tau2: bool = False,
        direction: str = 'both',
        *,
        weight: float = 1.0,
        **kwargs,
    ) -> None:
        super().__init__(weight, **kwargs)
        if not tau > 0:
            raise ValueError(f'MutualKLLoss: tau={tau} must be positive.')
        if direction not in DIRECTIONS:
            raise ValueError(f'MutualKLLoss: direction={direction!r} must be one of {DIRECTIONS}.')
        self.tau = tau
        self.detach_target = detach_target
        self.scale_by_tau2 = scale_by_tau2
        self.direction = direction
        self.reads = Reads(student=Taps(logits='all'))

    def connect(self, student: NetworkInfo, teachers: Sequence[NetworkInfo]) -> None:
        """Check that there are branches."""
        check_branches('MutualKLLoss', student, same_classes=True)

    def terms(self, step: Step) -> Mapping[str, Tensor]:
        """Return ``loss_mutual_kl``."""
        logits = dict(step.student.head_logits)
        main = logits.pop(MAIN)
        return {'loss_mutual_kl': self.weight_at(step) * self(main, list(logits.values()))}

    def forward(self, main_logits: Tensor, branch_logits: Sequence[Tensor]) -> Tensor:
        """Return the scalar loss.

        Args:
            main_logits: z_M, (N, K).
            branch_logits: z_1 .. z_(M-1), each (N, K); at least one.
        """
        log_main = F.log_softmax(main_logits.float() / self.tau, dim=-1)
        log_branches = F.log_softmax(torch.stack(tuple(branch_logits)).float() / self.tau, dim=-1)
        if self.direction == 'both':
            loss = self._both(log_branches, log_main)
        elif self.direction == 'to_main':
            loss = self._divergence(log_branches, log_main.expand_as(log_branches))
        else:
            loss = self._divergence(log_main.expand_as(log_branches), log_branches)
        loss = loss / main_logits.shape[0]
        return loss * self.tau**2 if self.scale_by_tau2 else loss

    def _both(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """KL(p || q) + KL(q || p), summed over everything.

        Together they are the sum of (p - q) (log p - log q). With p - q detached, its gradient in
        the logits is that of the two with detached targets. Log-softmax would subtract its
        probabilities times the sum of p - q over the classes, which is zero.
        """
        p, q = (self._held(log_scores).exp() for log_scores in (log_p, log_q))
        return ((p - q) * (log_p - log_q)).sum()

    def _divergence(self, log_target: Tensor, log_input: Tensor) -> Tensor:
        """KL(target || input), summed over everything."""
        target = self._held(log_target)
        return F.kl_div(log_input, target, reduction='sum', log_target=True)

    def _held(self, log_target: Tensor) -> Tensor:
        return log_target.detach() if self.detach_target else log_target

    def extra_repr(self) -> str:
        """Show the options in the printed model."""
        return f'tau={self.tau}, detach_target={self.detach_target}, direction={self.direction!r}'
