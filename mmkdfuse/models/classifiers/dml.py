"""Deep mutual learning (DML)."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import torch
from mmengine.model import ModuleList
from torch import Tensor

from mmkdfuse.models.classifiers.classifier import Classifier
from mmkdfuse.models.classifiers.multi_head import MultiHeadClassifier
from mmkdfuse.models.losses.soft_kl import soft_kl
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import NetworkOutput


@MODELS.register_module()
class DML(MultiHeadClassifier):
    """Several networks learn from the labels and from one another.

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
        **kwargs: ``predict_from``, ``head``, .. of :class:`MultiHeadClassifier`.

    Raises:
        ValueError: If there is no peer or a weight is out of range.
    """

    def __init__(
        self,
        backbone: str | dict,
        num_classes: int,
        image_size: int | Sequence[int],
        peers: int | Sequence[str | dict] = 1,
        tau: float = 1.0,
        weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        backbones = [backbone] * peers if isinstance(peers, int) else list(peers)
        if not backbones:
            raise ValueError(
                f'DML: peers={peers!r} must be a number from 1 or a list of backbones.'
            )
        if not tau > 0:
            raise ValueError(f'DML: tau={tau} must be positive.')
        if weight < 0:
            raise ValueError(f'DML: weight={weight} must not be negative.')
        self._peer_backbones = backbones
        super().__init__(backbone, num_classes, image_size, **kwargs)
        self.tau, self.weight = tau, weight

    def _build_top(self, head: dict | None) -> None:
        super()._build_top(head)
        self.peers = ModuleList(
            Classifier(peer, self.num_classes, self.image_size) for peer in self._peer_backbones
        )

    @property
    def num_heads(self) -> int:
        """M: the network and its peers."""
        return len(self.peers) + 1

    def forward_network(self, inputs: Tensor) -> NetworkOutput:
        """Run the peers and the network once on (N, 3, H, W) images."""
        outputs = [peer.forward_network(inputs) for peer in self.peers]
        outputs.append(super().forward_network(inputs))
        features = tuple(output.features[-1] for output in outputs)
        return NetworkOutput(
            outputs[-1].stages, features, tuple(output.logits[-1] for output in outputs)
        )

    def _losses(self, output: NetworkOutput, targets: Tensor) -> dict[str, Tensor]:
        terms = self._cross_entropies(output, targets, [1.0] * self.num_heads)
        if self.weight > 0:
            pairs = permutations(output.logits, 2)
            divergences = [soft_kl(peer.detach(), own, self.tau) for peer, own in pairs]
            terms['loss_kl'] = self.weight / len(self.peers) * torch.stack(divergences).sum()
        return terms

    def describe(self) -> list[str]:
        """Return what the dry run found, one line a fact."""
        peers = enumerate(self.peers, start=1)
        shapes = [f'branch{n}, a peer: {peer.describe()[0]}' for n, peer in peers]
        return [*super().describe(), *shapes]
