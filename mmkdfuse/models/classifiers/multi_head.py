"""Several classifiers scored side by side, of which one is the main one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample
from torch import Tensor

from mmkdfuse.models.classifiers.network import Network
from mmkdfuse.models.classifiers.predictions import make_predictions
from mmkdfuse.structures import MAIN, NetworkOutput

ENSEMBLE = 'ensemble'


class MultiHead(Network):
    """Base class of networks with several heads; those of other classes than K are not scored.

    Attributes:
        predict_from: Head behind ``pred_score``: ``'main'``, ``'ensemble'`` (softmax of the mean of
            all logits) or ``'branch1'``, ``'branch2'``, ..
    """

    predict_from: str = MAIN

    @property
    def num_heads(self) -> int:
        """M: the number of heads, the main one counted."""
        return len(self.head_names)

    @property
    def scored_heads(self) -> tuple[str, ...]:
        """Heads that score the K classes, the main one last."""
        return self.head_names

    def choose_head(self, predict_from: str) -> None:
        """Set the head to predict from.

        Raises:
            ValueError: If it does not exist.
        """
        if predict_from not in (*self.scored_heads, ENSEMBLE):
            raise ValueError(
                f'{type(self).__name__}: predict_from={predict_from!r} must be one of '
                f'{(*self.scored_heads, ENSEMBLE)}.'
            )
        self.predict_from = predict_from

    def scores(self, output: NetworkOutput) -> tuple[Tensor, ...]:
        """Return the logits of every head."""
        return tuple(output.head_logits.values())

    def predictions(
        self, output: NetworkOutput, data_samples: Tensor | Sequence[DataSample] | None
    ) -> list[DataSample]:
        """Return scores of the chosen head and, where there are several, of every head."""
        heads = self.scored_heads
        logits = torch.stack([output.logits_of(head) for head in heads], dim=1).float()
        if self.predict_from == ENSEMBLE:
            chosen = logits.mean(dim=1)
        else:
            chosen = logits[:, heads.index(self.predict_from)]
        branch_scores = F.softmax(logits, dim=-1) if len(heads) > 1 else None
        return make_predictions(chosen, data_samples, branch_scores)


def branch_names(branches: int) -> tuple[str, ...]:
    """Names of the heads in the order of their logits: ``branch1``, .., ``main``."""
    return (*(f'branch{number}' for number in range(1, branches + 1)), MAIN)
