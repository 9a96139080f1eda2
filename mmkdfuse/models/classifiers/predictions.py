"""Labels in, predictions out: the two ends that all classifiers share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample
from torch import Tensor


def targets_of(data_samples: Tensor | Sequence[DataSample]) -> Tensor:
    """Return labels (N,) int64, or soft labels (N, K) where a batch augmentation mixed images."""
    if isinstance(data_samples, Tensor):
        return data_samples
    if 'gt_score' in data_samples[0]:
        # Integers where a batch was left unmixed.
        return torch.stack([sample.gt_score for sample in data_samples]).float()
    return torch.cat([sample.gt_label for sample in data_samples])


def make_predictions(
    logits: Tensor,
    data_samples: Tensor | Sequence[DataSample] | None,
    branch_scores: Tensor | None = None,
) -> list[DataSample]:
    """Pack scores into one ``DataSample`` per image.

    Args:
        logits: Scores that decide ``pred_label``, (N, K).
        data_samples: Labels (N,), or samples to fill in, or None.
        branch_scores: Probabilities of every head, (N, M, K).
    """
    scores = F.softmax(logits.float(), dim=-1)
    labels = scores.argmax(dim=-1, keepdim=True)
    if data_samples is None or isinstance(data_samples, Tensor):
        samples = [DataSample() for _ in range(len(scores))]
        if isinstance(data_samples, Tensor):
            # Rows, not scalars, which DataSample would fetch from the device one by one.
            targets = data_samples.reshape(len(samples), -1).unbind()
            for sample, target in zip(samples, targets, strict=True):
                sample.set_gt_label(target)
    else:
        samples = list(data_samples)
    rows = zip(samples, scores.unbind(), labels.unbind(), strict=True)
    for index, (sample, score, label) in enumerate(rows):
        sample.set_pred_score(score).set_pred_label(label)
        if branch_scores is not None:
            sample.set_field(branch_scores[index], 'branch_scores', dtype=Tensor)
    return samples
