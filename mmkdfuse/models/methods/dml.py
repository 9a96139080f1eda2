"""Deep mutual learning (DML)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmkdfuse.models.classifiers.peers import PeerClassifier
from mmkdfuse.models.losses.peer_kl import PeerKLLoss
from mmkdfuse.registry import MODELS


@MODELS.register_module()
class DML(PeerClassifier):
    """Several networks that learn from the labels and from one another.

    Zhang et al., CVPR 2018: L_k = CE(q_k, y) + mean over peers of KL(q_peer || q_k), temperature 1,
    the peer a constant. All networks are updated from one forward pass, as in the authors' code.

    The network itself is the main head and the one that ships; its peers are ``branch1``, ...
    Terms: ``loss_ce_branch1`` .., ``loss_ce_main``, ``loss_kl``.

    Args:
        backbone: The network, as for :class:`Classifier`.
        num_classes: K.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
        peers: Number of further networks like it, or a list of their backbones (names or configs).
        tau: Temperature, > 0.
        weight: Weight of the divergences, >= 0.
        losses: Further losses.
        **kwargs: ``predict_from``, ``head``, .. of :class:`PeerClassifier`.

    Raises:
        ValueError: If there is no peer or a weight is out of range.

    Example:
        >>> model = DML(dict(arch='resnet18', base_channels=4), num_classes=10, image_size=32)
        >>> list(model.losses)
        ['ClassificationLoss', 'PeerKLLoss']
    """

    def __init__(
        self,
        backbone: str | dict,
        num_classes: int,
        image_size: int | Sequence[int],
        peers: int | Sequence[str | dict] = 1,
        tau: float = 1.0,
        weight: float = 1.0,
        losses: Sequence = (),
        **kwargs: Any,
    ) -> None:
        if not tau > 0:
            raise ValueError(f'DML: tau={tau} must be positive.')
        if weight < 0:
            raise ValueError(f'DML: weight={weight} must not be negative.')
        own = PeerKLLoss(weight, tau)
        super().__init__(backbone, num_classes, image_size, peers, losses=[own, *losses], **kwargs)
        self.tau, self.weight = tau, weight
