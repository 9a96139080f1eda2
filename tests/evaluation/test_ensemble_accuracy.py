"""Accuracy of every head and of the ensemble, counted independently."""

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample

from mmkdfuse.evaluation import EnsembleAccuracy
from mmkdfuse.registry import METRICS

IMAGES, HEADS, K = 23, 3, 6


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(IMAGES, HEADS, K, generator=generator)


@pytest.fixture
def labels():
    return torch.randint(0, K, (IMAGES,), generator=torch.Generator().manual_seed(1))


def predictions_of(scores, labels):
    """What a model's predictions look like to a metric."""
    return [
        dict(branch_scores=score, gt_label=label.view(1))
        for score, label in zip(scores, labels, strict=True)
    ]


def evaluate(metric, predictions, batch=5):
    for start in range(0, len(predictions), batch):
        metric.process(None, predictions[start : start + batch])
    return metric.evaluate(len(predictions))


def percent_in_top(scores, labels, k):
    """Share of images whose label is among the k highest scores."""
    order = np.argsort(-np.asarray(scores, dtype=np.float64), axis=1)[:, :k]
    return 100 * np.mean([label in row for label, row in zip(labels.tolist(), order, strict=True)])


@pytest.mark.parametrize('batch', [1, 5, IMAGES])
def test_equals_a_direct_count(logits, labels, batch):
    found = evaluate(EnsembleAccuracy((1, 2)), predictions_of(logits.softmax(-1), labels), batch)
    expected = {}
    for k in (1, 2):
        for head in range(HEADS):
            expected[f'branch{head + 1}/top{k}'] = percent_in_top(logits[:, head], labels, k)
        expected[f'main/top{k}'] = expected[f'branch{HEADS}/top{k}']
        expected[f'ensemble/top{k}'] = percent_in_top(logits.mean(dim=1), labels, k)
    assert found == pytest.approx(expected)
    assert len(set(found.values())) > 4  # the heads differ, or the test would show nothing


def test_names_and_their_order(logits, labels):
    found = evaluate(EnsembleAccuracy(topk=(1, 5)), predictions_of(logits.softmax(-1), labels))
    heads = ['branch1', 'branch2', 'branch3', 'main', 'ensemble']
    assert list(found) == [f'{head}/top{k}' for head in heads for k in (1, 5)]
    assert found['main/top1'] == found['branch3/top1']
    assert found['main/top5'] == found['branch3/top5']


def test_one_k_as_a_number_and_one_head(logits, labels):
    found = evaluate(EnsembleAccuracy(topk=1), predictions_of(logits[:, :1].softmax(-1), labels))
    assert list(found) == ['branch1/top1', 'main/top1', 'ensemble/top1']
    assert len(set(found.values())) == 1


def test_prefix_goes_before_every_name(logits, labels):
    found = evaluate(EnsembleAccuracy(1, prefix='test'), predictions_of(logits.softmax(-1), labels))
    assert [name.split('/')[0] for name in found] == ['test'] * 5


def test_k_beyond_the_class_count_is_always_right(logits, labels):
    found = evaluate(EnsembleAccuracy((1, 9)), predictions_of(logits.softmax(-1), labels))
    assert {value for name, value in found.items() if name.endswith('top9')} == {100.0}


@pytest.mark.parametrize(('ensemble', 'right'), [('logits', 0.0), ('probabilities', 100.0)])
def test_the_two_ensembles_differ(ensemble, right):
    # Two heads are fairly sure of class 0, one excludes it.
    scores = torch.tensor([[[0.9, 0.1], [0.9, 0.1], [0.001, 0.999]]])
    metric = EnsembleAccuracy(1, ensemble=ensemble)
    assert evaluate(metric, predictions_of(scores, torch.tensor([0])))['ensemble/top1'] == right


def test_certain_heads_do_not_spoil_the_ensemble():
    """A probability of 0 has no logarithm."""
    scores = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.4, 0.6], [0.2, 0.3, 0.5]]])
    found = evaluate(EnsembleAccuracy(1), predictions_of(scores, torch.tensor([2])))
    assert found['ensemble/top1'] == 100.0 and found['branch1/top1'] == 0.0


def test_uneven_shares_of_two_processes_gather_to_the_same(logits, labels):
    """mmengine interleaves the processes' results and cuts what the sampler padded."""
    predictions = predictions_of(logits.softmax(-1), labels)
    whole = evaluate(EnsembleAccuracy((1, 2)), predictions)
    first, second = EnsembleAccuracy((1, 2)), EnsembleAccuracy((1, 2))
    padded = [*predictions, predictions[0]]
    first.process(None, padded[0::2][:5])
    first.process(None, padded[0::2][5:])
    second.process(None, padded[1::2])
    assert len(first.results) == len(second.results) == (IMAGES + 1) // 2
    pairs = zip(first.results, second.results, strict=True)
    gathered = [result for pair in pairs for result in pair][:IMAGES]
    assert first.compute_metrics(gathered) == whole


def test_reads_the_predictions_of_a_model(logits, labels):
    samples = []
    for score, label in zip(logits.softmax(-1), labels, strict=True):
        sample = DataSample().set_gt_label(label.item()).set_pred_score(score[-1])
        sample.set_field(score, 'branch_scores', dtype=torch.Tensor)
        samples.append(sample.to_dict())
    expected = evaluate(EnsembleAccuracy(), predictions_of(logits.softmax(-1), labels))
    assert evaluate(METRICS.build(dict(type='mmkdfuse.EnsembleAccuracy')), samples) == expected


def test_predictions_of_a_single_network_are_refused_with_the_metric_to_use():
    prediction = dict(pred_score=torch.ones(K) / K, gt_label=torch.tensor([0]))
    with pytest.raises(ValueError, match="no branch_scores; .*val_evaluator=dict.type='Accuracy'"):
        EnsembleAccuracy().process(None, [prediction])


@pytest.mark.parametrize('topk', [0, (), (1, 0), (1, 2.5), -1])
def test_refused_topk_is_named(topk):
    with pytest.raises(ValueError, match='topk=.* must be positive integers'):
        EnsembleAccuracy(topk)


def test_unknown_ensemble_is_refused():
    with pytest.raises(ValueError, match="ensemble='vote' must be in .*'logits', 'probabilities'"):
        EnsembleAccuracy(ensemble='vote')
