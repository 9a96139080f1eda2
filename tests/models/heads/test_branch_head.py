"""One classifier per branch, the network's own for the last feature."""

import pytest
import torch
from mmpretrain.models.heads import LinearClsHead, StackedLinearClsHead

from mmkdfuse.models import BranchHead


def features_of(count, width=6):
    return list(torch.randn(count, 2, width, generator=torch.Generator().manual_seed(0)))


def test_every_feature_goes_through_its_own_linear_layer():
    head, features = BranchHead(num_classes=5, in_channels=6, num_features=3), features_of(3)
    logits = head(features)
    linear = [*head.branches, head.main.fc]
    assert len(logits) == 3 and isinstance(head.main, LinearClsHead)
    for feature, layer, found in zip(features, linear, logits, strict=True):
        torch.testing.assert_close(found, feature @ layer.weight.T + layer.bias)
    assert sum(parameter.numel() for parameter in head.parameters()) == 3 * (6 * 5 + 5)


def test_the_main_classifier_may_be_any_head_of_mmpretrain():
    main = dict(type='mmpretrain.StackedLinearClsHead', mid_channels=[7])
    head = BranchHead(num_classes=5, in_channels=6, num_features=3, main=main)
    features = features_of(3)
    assert isinstance(head.main, StackedLinearClsHead)
    assert [tuple(z.shape) for z in head(features)] == [(2, 5)] * 3
    assert torch.equal(head(features)[-1], head.main((features[-1],)))
    assert head.pre_logits(features).shape == (2, 7)
    assert main == dict(type='mmpretrain.StackedLinearClsHead', mid_channels=[7])


def test_pre_logits_of_a_linear_classifier_are_the_main_feature():
    features = features_of(3)
    assert torch.equal(BranchHead(5, 6, 3).pre_logits(features), features[-1])


def test_initialisation_of_all_classifiers_is_pytorchs():
    """Uniform within 1 / sqrt(D), as in the reference networks."""
    torch.manual_seed(0)
    head = BranchHead(num_classes=50, in_channels=64, num_features=2)
    head.init_weights()
    for layer in (head.branches[0], head.main.fc):
        assert layer.weight.abs().max() <= 1 / 8
        assert layer.weight.std().item() == pytest.approx(1 / 8 / 3**0.5, rel=0.05)


@pytest.mark.parametrize('count', [0, 2, 4])
def test_another_number_of_features_is_refused(count):
    with pytest.raises(ValueError, match=f'BranchHead: got {count} features, built for 3'):
        BranchHead(5, 6, 3)(features_of(count))
