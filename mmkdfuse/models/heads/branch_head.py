"""Classifiers of the branches and of the main network."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmkdfuse.models.filled_in import filled_in
from mmkdfuse.models.heads.task_loss import check_head
from mmkdfuse.models.probe import evaluation
from mmkdfuse.registry import MODELS


@MODELS.register_module()
class BranchHead(BaseModule):
    """One linear classifier per branch; the main network keeps its own (paper 000, sec. 3.2).

    Args:
        num_classes: K.
        in_channels: D, channels of every feature.
        num_features: M, branches and main network.
        main: Config of the main classifier, any mmpretrain head that takes a tuple of features
            (``LinearClsHead``, ``StackedLinearClsHead``); default one linear layer.
            ``num_classes`` and ``in_channels`` are filled in.
        branch_classes: Classes of the branches' classifiers, such as joint labels of class and
            rotation; default K.

    Example:
        >>> head = BranchHead(num_classes=10, in_channels=16, num_features=3)
        >>> [z.shape[1] for z in head([Tensor(1, 16)] * 3)]
        [10, 10, 10]
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_features: int,
        main: dict | None = None,
        branch_classes: int | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_classes = num_classes
        self.branches = nn.ModuleList(
            nn.Linear(in_channels, branch_classes or num_classes) for _ in range(num_features - 1)
        )
        self.main = build_main_head(main, num_classes, in_channels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return M logits, each (N, K), from M features, each (N, D); the main network's last."""
        if len(features) != len(self.branches) + 1:
            raise ValueError(
                f'BranchHead: got {len(features)} features, built for {len(self.branches) + 1}.'
            )
        pairs = zip(self.branches, features[:-1], strict=True)
        logits = [branch(feature) for branch, feature in pairs]
        return [*logits, self.main((features[-1],))]

    def pre_logits(self, features: Sequence[Tensor]) -> Tensor:
        """The main network's feature as its last linear layer sees it, (N, D')."""
        return self.main.pre_logits((features[-1],))  # type: ignore[operator]


def build_main_head(head: dict | None, num_classes: int, in_channels: int) -> nn.Module:
    """Build a network's own classifier with its class count and channels filled in.

    The default linear layer keeps PyTorch's initialisation, as the reference networks do.

    Raises:
        ValueError: If the head's loss is not one of logits and labels (:func:`check_head`), if it
            does not classify vectors, or has another class count or other channels.
    """
    default = dict(type='mmpretrain.LinearClsHead', init_cfg=None)
    cfg = dict(head) if head else default
    cfg = filled_in('head', cfg, 'num_classes of the model', num_classes=num_classes)
    cfg = filled_in('head', cfg, 'the map or feature before it', in_channels=in_channels)
    check_head(MODELS.get(cfg['type']) if isinstance(cfg['type'], str) else cfg['type'])
    built = MODELS.build(cfg)
    check_logits(built, num_classes, in_channels)
    return built


def check_logits(head: nn.Module, num_classes: int, in_channels: int) -> None:
    """Raise unless a head makes (N, K) logits of a tuple of vectors, in training too.

    Raises:
        ValueError: If it takes tokens or maps, or is one that only distils.
    """
    name = f'head.type={type(head).__name__!r}'
    if getattr(head, 'distillation', False):
        raise ValueError(f'{name}: head.distillation=True cannot be trained, expected False.')
    vectors = torch.zeros(2, in_channels)
    try:
        with evaluation(head), torch.no_grad():
            found: Any = head((vectors,))
    except Exception as error:
        raise ValueError(
            f'{name} does not take one vector (N, {in_channels}) per image ({error}), expected a '
            'head such as LinearClsHead.'
        ) from error
    if not isinstance(found, Tensor) or tuple(found.shape) != (2, num_classes):
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            f'{name} makes {shape} of 2 vectors, expected logits (2, {num_classes}), as '
            'LinearClsHead gives.'
        )
