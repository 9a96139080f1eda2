"""Several classifiers scored side by side, of which one is the main one."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample
from torch import Tensor

from mmkdfuse.models.classifiers.classifier import Classifier, cross_entropy, make_predictions
from mmkdfuse.structures import NetworkOutput


class MultiHeadClassifier(Classifier):
    """A classifier whose ``forward_network`` gives the logits of several heads, the main one last.

    Args:
        backbone: As for :class:`Classifier`.
        num_classes: K.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
        predict_from: Head behind ``pred_score``: ``'main'``, ``'ensemble'`` (softmax of the mean
            of all logits) or ``'branch1'``, ``'branch2'``, ..
        **kwargs: ``head``, ``data_preprocessor``, .. of :class:`Classifier`.

    Raises:
        ValueError: If the head to predict from does not exist.
    """

    def __init__(
        self,
        backbone: str | dict,
        num_classes: int,
        image_size: int | Sequence[int],
        predict_from: str = 'main',
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone, num_classes, image_size, **kwargs)
        if predict_from not in (*self.head_names, 'ensemble'):
            raise ValueError(
                f'{type(self).__name__}: predict_from={predict_from!r} must be one of '
                f'{(*self.head_names, "ensemble")}.'
            )
        self.predict_from = predict_from

    @property
    def num_heads(self) -> int:
        """M: the number of heads, the main one counted."""
        raise NotImplementedError

    @property
    def head_names(self) -> tuple[str, ...]:
        """Names of the heads in the order of their logits: ``branch1``, .., ``main``."""
        return (*(f'branch{number}' for number in range(1, self.num_heads)), 'main')

    def _tensor(self, output: NetworkOutput) -> tuple[Tensor, ...]:
        return output.logits

    def _cross_entropies(
        self, output: NetworkOutput, targets: Tensor, weights: Sequence[float]
    ) -> dict[str, Tensor]:
        """Weighted cross-entropy of every head, ``loss_ce_branch1`` .. ``loss_ce_main``."""
        heads = zip(self.head_names, weights, output.logits, strict=True)
        return {
            f'loss_ce_{name}': weight * cross_entropy(logits, targets)
            for name, weight, logits in heads
        }

    def _predict(
        self, output: NetworkOutput, data_samples: Tensor | Sequence[DataSample] | None
    ) -> list[DataSample]:
        logits = torch.stack(output.logits, dim=1).float()
        if self.predict_from == 'ensemble':
            chosen = logits.mean(dim=1)
        else:
            chosen = logits[:, self.head_names.index(self.predict_from)]
        return make_predictions(chosen, data_samples, F.softmax(logits, dim=-1))
