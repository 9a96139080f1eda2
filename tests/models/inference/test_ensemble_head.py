"""The ensemble as one head of mmpretrain."""

import pytest
import torch
from mmpretrain.structures import DataSample

from mmkdfuse.registry import MODELS

K, D, M = 5, 6, 3


@pytest.fixture
def head():
    torch.manual_seed(0)
    return MODELS.build(
        dict(type='EnsembleHead', num_classes=K, in_channels=D, num_features=M)
    ).eval()


def features():
    return torch.randn(M, 2, D, generator=torch.Generator().manual_seed(0)).unbind()


def test_logits_are_the_mean_of_all_heads(head):
    linear = [*head.heads.branches, head.heads.main.fc]
    expected = (
        sum(f @ layer.weight.T + layer.bias for f, layer in zip(features(), linear, strict=True))
        / M
    )
    torch.testing.assert_close(head(features()), expected)


def test_predictions(head):
    predictions = head.predict(features(), [DataSample(), DataSample()])
    for prediction, row in zip(predictions, head(features()), strict=True):
        torch.testing.assert_close(prediction.pred_score, row.softmax(dim=0))
        assert prediction.pred_label.item() == row.argmax()


def test_its_weights_are_those_of_a_branch_head(head):
    branches = MODELS.build(
        dict(type='BranchHead', num_classes=K, in_channels=D, num_features=M)
    ).eval()
    head.heads.load_state_dict(branches.state_dict(), strict=True)
    expected = torch.stack(branches(features())).mean(dim=0)
    torch.testing.assert_close(head(features()), expected)


def test_the_main_classifier_may_be_another():
    main = dict(type='mmpretrain.StackedLinearClsHead', mid_channels=[4])
    cfg = dict(type='EnsembleHead', num_classes=K, in_channels=D, num_features=M, main=main)
    assert MODELS.build(cfg).eval()(features()).shape == (2, K)


def test_a_missing_feature_is_refused(head):
    with pytest.raises(ValueError, match='got 2 features, built for 3'):
        head(features()[:2])
