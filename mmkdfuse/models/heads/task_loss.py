"""The task loss that a head's own options define."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.evaluation.metrics import Accuracy
from mmpretrain.models.heads import ClsHead
from mmpretrain.models.losses import AsymmetricLoss, CrossEntropyLoss, FocalLoss
from torch import Tensor, nn


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in float32, for labels (N,) or soft labels (N, K)."""
    return F.cross_entropy(logits.float(), targets)


_METHODS = ('loss', '_get_loss', 'predict', '_get_predictions')


class TaskLoss:
    """The ``loss``, ``cal_acc`` and ``topk`` of an mmpretrain head.

    Args:
        head: A head that passed :func:`check_head`, or any module: then the cross-entropy.
    """

    def __init__(self, head: nn.Module) -> None:
        module: Any = getattr(head, 'loss_module', None)
        self._module = None if module is None or _is_plain(module) else module
        topk: Any = getattr(head, 'topk', ())
        topk = (topk,) if isinstance(topk, int) else tuple(topk)
        self._topk = topk if getattr(head, 'cal_acc', False) else ()

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over the batch, a scalar.

        Args:
            logits: (N, K).
            targets: Labels (N,) or soft labels (N, K).
        """
        if self._module is None:
            return cross_entropy(logits, targets)
        logits = logits.float()
        if targets.ndim == 1 and _wants_rows(self._module):
            targets = F.one_hot(targets, logits.shape[1]).to(logits.dtype)
        return self._module(logits, targets, avg_factor=len(logits))

    def apart(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the same for one more head, with targets that count only once.

        A loss that counts labels (``SeesawLoss``) is left as it was.
        """
        buffers = [] if self._module is None else list(self._module.buffers())
        before = [buffer.clone() for buffer in buffers]
        loss = self(logits, targets)
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
        return loss

    def accuracies(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return ``accuracy_top-k`` in percent for every k of ``topk``, if the head has
        ``cal_acc``.
        """
        if not self._topk:
            return {}
        if targets.ndim != 1:
            raise ValueError(
                'head.cal_acc=True needs one label an image, but a batch augmentation mixes them: '
                'set cal_acc=False.'
            )
        with torch.no_grad():
            # Its default threshold 0 is meant for probabilities.
            found = Accuracy.calculate(logits, targets, topk=self._topk, thrs=(None,))
        return {f'accuracy_top-{k}': value[0] for k, value in zip(self._topk, found, strict=True)}


def check_head(kind: Any) -> None:
    """Raise if a class of heads computes loss or predictions in a way of its own.

    Args:
        kind: The class.

    Raises:
        ValueError: If it is one of the multi-label, margin or several-headed kind.
    """
    if issubclass(kind, ClsHead):
        refused = any(getattr(kind, name) is not getattr(ClsHead, name) for name in _METHODS)
    else:
        refused = hasattr(kind, 'loss')
    if refused:
        raise ValueError(
            f'head.type={kind.__name__!r} computes its loss or predictions in its own way '
            '(margin, several labels or several heads), which is not supported; expected a head '
            'whose logits and `loss` say it all, such as LinearClsHead or StackedLinearClsHead.'
        )


def _is_plain(module: nn.Module) -> bool:
    """Whether a loss is nothing but the mean cross-entropy."""
    return (
        type(module) is CrossEntropyLoss
        and not (module.use_sigmoid or module.use_soft)
        and (module.reduction, module.loss_weight) == ('mean', 1.0)
        and module.class_weight is None
        and module.pos_weight is None
    )


def _wants_rows(module: nn.Module) -> bool:
    """Whether a loss takes one row of scores per image instead of one label."""
    if isinstance(module, (FocalLoss, AsymmetricLoss)):
        return True
    return isinstance(module, CrossEntropyLoss) and (module.use_sigmoid or module.use_soft)
