"""Mutual self-distillation loss of KFMSD."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkdfuse.registry import MODELS

DIRECTIONS = ('both', 'to_main', 'to_branches')


@MODELS.register_module()
class MutualKLLoss(nn.Module):
    """Kullback-Leibler divergence, both ways, between the main network and every branch.

    Paper 000, eq. 8: sum_i KL(q_i || q_M) + KL(q_M || q_i), q = softmax(z / tau), natural
    logarithm, sum over classes, mean over the batch. The paper leaves open whether the side that
    teaches is detached: by default it is (DML's convention), i.e. KL(sg(q_M) || q_i) teaches branch
    i and KL(sg(q_i) || q_M) teaches the main network. The value is the same either way.

    Args:
        tau: Temperature, > 0; the paper's 3.
        detach_target: Stop the gradient through the first argument of each divergence.
        scale_by_tau2: Multiply by tau^2 as in Hinton's KD; eq. 8 does not.
        direction: ``'both'``; or one half of eq. 8: ``'to_main'``, only KL(q_i || q_M) (branches
            teach the main network), or ``'to_branches'``, only KL(q_M || q_i).
    """

    def __init__(
        self,
        tau: float = 3.0,
        detach_target: bool = True,
        scale_by_tau2: bool = False,
        direction: str = 'both',
    ) -> None:
        super().__init__()
        if not tau > 0:
            raise ValueError(f'MutualKLLoss: tau={tau} must be positive.')
        if direction not in DIRECTIONS:
            raise ValueError(f'MutualKLLoss: direction={direction!r} must be one of {DIRECTIONS}.')
        self.tau = tau
        self.detach_target = detach_target
        self.scale_by_tau2 = scale_by_tau2
        self.direction = direction

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

        Together they are the sum of (p - q) (log p - log q). With p - q held fixed, its gradient in
        the logits is that of the two with their targets held fixed: log-softmax would subtract its
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
