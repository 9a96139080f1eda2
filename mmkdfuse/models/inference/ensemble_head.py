"""All classifiers of a network with branches as one."""

from collections.abc import Sequence
from typing import Any

import torch
from mmpretrain.models.heads import ClsHead
from torch import Tensor

from mmkdfuse.models.heads.branch_head import BranchHead
from mmkdfuse.registry import MODELS


@MODELS.register_module()
class EnsembleHead(ClsHead):
    """The mean of the logits of branches and main network (paper 000, sec. 4: the ensemble).

    A head for mmpretrain's ``ImageClassifier``: one score per class.

    Args:
        num_classes: K.
        in_channels: D, channels of every feature.
        num_features: M, branches and main network.
        main: Config of the main classifier, as for :class:`BranchHead`.
        **kwargs: ``loss``, ``topk``, .. of mmpretrain's ``ClsHead``.

    Example:
        >>> head = EnsembleHead(num_classes=10, in_channels=4, num_features=3)
        >>> head([torch.zeros(2, 4)] * 3).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_features: int,
        main: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.heads = BranchHead(num_classes, in_channels, num_features, main)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Return logits (N, K) from M features, each (N, D), the main network's last."""
        return torch.stack(self.heads(feats)).mean(dim=0)
