"""Accuracy, cost and shares against numbers worked out by hand."""

import numpy as np
import pytest
import torch

from mmkdfuse.analysis import exit_curve

# Two heads, the main one last; of class 0, 1 and 2 the first head sees these probabilities.
SCORES = np.array(
    [
        [[0.9, 0.1, 0.0], [0.6, 0.4, 0.0]],  # both right
        [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]],  # the first wrong, the main head right
        [[0.2, 0.3, 0.5], [0.5, 0.4, 0.1]],  # the first right, the main head wrong
        [[0.4, 0.3, 0.3], [0.3, 0.4, 0.3]],  # both wrong
    ]
)
LABELS = np.array([0, 1, 2, 2])
COSTS = [10, 50]
EXPECTED = {
    0.1: (50.0, 10.0, (1.0, 0.0)),
    0.45: (50.0, 20.0, (0.75, 0.25)),
    0.5: (50.0, 20.0, (0.75, 0.25)),  # reaching the threshold is enough
    0.6: (25.0, 30.0, (0.5, 0.5)),
    0.8: (50.0, 40.0, (0.25, 0.75)),
    1.0: (50.0, 50.0, (0.0, 1.0)),
}


@pytest.mark.parametrize('tensors', [False, True])
def test_values_by_hand(tensors):
    scores, labels = SCORES, LABELS
    if tensors:
        scores, labels = torch.from_numpy(scores).float().requires_grad_(), torch.from_numpy(labels)
    points = exit_curve(scores, labels, COSTS, list(EXPECTED))
    assert [point.threshold for point in points] == list(EXPECTED)
    for point, (accuracy, macs, shares) in zip(points, EXPECTED.values(), strict=True):
        assert point.accuracy == pytest.approx(accuracy)
        assert point.macs == pytest.approx(macs)
        assert point.shares == pytest.approx(shares)


def test_the_first_head_that_is_sure_counts():
    scores = np.array([[[0.6, 0.4], [0.05, 0.95], [0.9, 0.1]]])
    low, middle, high = exit_curve(scores, [1], [1, 2, 4], [0.6, 0.7, 0.99])
    assert low.shares == (1, 0, 0) and low.accuracy == 0
    assert middle.shares == (0, 1, 0) and middle.accuracy == 100
    assert high.shares == (0, 0, 1) and high.accuracy == 0 and high.macs == 4


def test_cost_never_falls_with_the_threshold():
    rng = np.random.default_rng(0)
    scores, labels = rng.dirichlet(np.ones(5), (200, 4)), rng.integers(0, 5, 200)
    points = exit_curve(scores, labels, [3, 4, 4, 9], np.linspace(0.01, 1, 50))
    macs = [point.macs for point in points]
    assert macs == sorted(macs) and macs[0] == 3 and macs[-1] == 9
    assert all(sum(point.shares) == pytest.approx(1) for point in points)
    # The last threshold is that of the main head alone.
    assert points[-1].accuracy == pytest.approx(100 * (scores[:, -1].argmax(1) == labels).mean())


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(scores=SCORES[0]), r'scores of shape \(2, 3\) must be \(N, M, K\)'),
        (dict(scores=SCORES[:0]), r'scores of shape \(0, 2, 3\)'),
        (dict(scores=SCORES * 4 - 1), 'scores from -1 to 2.6 must be probabilities'),
        (dict(scores=SCORES * np.nan), 'must be probabilities'),
        (dict(labels=LABELS[:3]), r'labels of shape \(3,\) must be \(4,\)'),
        (dict(costs=[1]), r'costs=\[1\] must be 2 numbers'),
        (dict(costs=[2, 1]), r'costs=\[2, 1\] must be 2 numbers from 0 that never fall'),
        (dict(thresholds=[0.5, 0]), r'threshold=0 must be in \(0, 1\]'),
        (dict(thresholds=[1.5]), r'threshold=1.5 must be in \(0, 1\]'),
    ],
)
def test_bad_inputs(changes, message):
    inputs = dict(scores=SCORES, labels=LABELS, costs=COSTS, thresholds=[0.5])
    with pytest.raises(ValueError, match=message):
        exit_curve(**{**inputs, **changes})
