"""Several classifiers that vote with equal weights."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import ModuleList
from mmpretrain.models.heads import ClsHead
from torch import Tensor, nn

from mmkdfuse.registry import MODELS


@MODELS.register_module()
class MeanHead(ClsHead):
    """Mean of the logits of several classifiers, one feature each.

    Args:
        heads: The classifiers, modules or configs.
        **kwargs: ``loss``, ``topk``, .. of mmpretrain's ``ClsHead``.

    Example:
        >>> linear = dict(type='mmpretrain.LinearClsHead', num_classes=10)
        >>> head = MeanHead([dict(linear, in_channels=4), dict(linear, in_channels=8)])
        >>> head([torch.zeros(2, 4), torch.zeros(2, 8)]).shape
        torch.Size([2, 10])
    """

    def __init__(self, heads: Sequence[nn.Module | dict], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = ModuleList(
            head if isinstance(head, nn.Module) else MODELS.build(head) for head in heads
        )

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Return logits (N, K) from one feature (N, D_i) for every classifier."""
        pairs = zip(self.heads, feats, strict=True)
        return torch.stack([head((feature,)) for head, feature in pairs]).mean(dim=0)
