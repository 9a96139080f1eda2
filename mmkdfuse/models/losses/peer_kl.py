"""Divergence between networks that teach each other (DML)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

import torch
from torch import Tensor

from mmkdfuse.models.losses.loss import Loss
from mmkdfuse.models.losses.mutual_kl import check_branches
from mmkdfuse.models.losses.soft_kl import soft_kl
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import NetworkInfo, Reads, Step, Taps


@MODELS.register_module()
class PeerKLLoss(Loss):
    """For every head the mean over its peers of KL(sg(q_peer) || q), summed over the heads.

    Zhang et al., CVPR 2018; mean over the batch. Term: ``loss_kl``.

    Args:
        weight: Factor, >= 0.
        tau: Temperature, > 0; no factor tau^2.
        **kwargs: ``warmup_epochs`` of :class:`Loss`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> PeerKLLoss().reads.student.logits
        'all'
    """

    def __init__(self, weight: float = 1.0, tau: float = 1.0, **kwargs) -> None:
        super().__init__(weight, **kwargs)
        if not tau > 0:
            raise ValueError(f'PeerKLLoss: tau={tau} must be positive.')
        self.tau = tau
        self.reads = Reads(student=Taps(logits='all'))

    def connect(self, student: NetworkInfo, teachers: Sequence[NetworkInfo]) -> None:
        """Check that there are peers."""
        check_branches('PeerKLLoss', student, same_classes=True)

    def terms(self, step: Step) -> Mapping[str, Tensor]:
        """Return ``loss_kl``."""
        logits = list(step.student.head_logits.values())
        divergences = [
            soft_kl(peer.detach(), own, self.tau) for peer, own in permutations(logits, 2)
        ]
        weight = self.weight_at(step) / (len(logits) - 1)
        return {'loss_kl': weight * torch.stack(divergences).sum()}
