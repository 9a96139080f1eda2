"""Accuracy against cost of a network that may be left at each of its heads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ExitPoint:
    """Result of one threshold.

    Attributes:
        threshold: Probability from which on images leave.
        accuracy: Share of right predictions, in percent.
        macs: Average multiply-accumulate operations per image.
        shares: Share of the images that leave at each head, sum 1.
    """

    threshold: float
    accuracy: float
    macs: float
    shares: tuple[float, ...]


def exit_curve(
    scores: Any, labels: Any, costs: Sequence[float], thresholds: Sequence[float]
) -> list[ExitPoint]:
    """Evaluate thresholds on predictions of all heads.

    Every image leaves at the first head whose largest probability is at least the threshold, or at
    the last head. With a higher threshold the average cost is the same or higher.

    Args:
        scores: Probabilities of every head, array or tensor (N, M, K), the main head last.
        labels: Classes, (N,).
        costs: MACs spent on an image that leaves at each head, (M,), never falling.
        thresholds: Numbers in (0, 1].

    Raises:
        ValueError: If a shape does not fit, scores are no probabilities or costs fall.
    """
    scores, labels = _array(scores), _array(labels)
    if scores.ndim != 3 or 0 in scores.shape:
        raise ValueError(f'scores of shape {scores.shape} must be (N, M, K), none of them 0.')
    if not ((scores >= 0) & (scores <= 1 + 1e-3)).all():
        raise ValueError(
            f'scores from {scores.min():.3g} to {scores.max():.3g} must be probabilities.'
        )
    if labels.shape != scores.shape[:1]:
        raise ValueError(f'labels of shape {labels.shape} must be ({len(scores)},) as in scores.')
    spent = np.asarray(costs, dtype=float)
    if spent.shape != scores.shape[1:2] or not (spent >= 0).all() or (np.diff(spent) < 0).any():
        raise ValueError(
            f'costs={[*costs]} must be {scores.shape[1]} numbers from 0 that never fall.'
        )
    sure, right = scores.max(axis=2), scores.argmax(axis=2) == labels[:, None]
    images, heads = sure.shape
    points = []
    for threshold in map(check_threshold, thresholds):
        leaves = sure >= threshold
        leaves[:, -1] = True
        taken = leaves.argmax(axis=1)  # the first one
        shares = np.bincount(taken, minlength=heads) / images
        accuracy = 100 * right[np.arange(images), taken].mean()
        points.append(
            ExitPoint(threshold, float(accuracy), float(shares @ spent), tuple(shares.tolist()))
        )
    return points


def check_threshold(threshold: float) -> float:
    """Return a threshold as float.

    Raises:
        ValueError: If it is not in (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f'threshold={threshold!r} must be in (0, 1].')
    return float(threshold)


def _array(values: Any) -> np.ndarray:
    """An array of an array or of a tensor on any device."""
    return np.asarray(values.detach().cpu() if hasattr(values, 'detach') else values)
