"""Sizes of gradients beside weight decay, against a sum written out."""

import pytest
import torch
from torch import nn

from mmkdfuse.analysis.loss_scale import LossScale, measure_loss_scale, untouched


def test_norms_are_those_of_the_gradients():
    weights = [nn.Parameter(torch.tensor([3.0, 4.0])), nn.Parameter(torch.tensor([2.0]))]
    terms = dict(
        loss_a=2 * weights[0].sum(),  # gradient (2, 2)
        loss_b=weights[0].square().sum() + 3 * weights[1].sum(),  # (6, 8), (3)
        accuracy=torch.tensor(50.0),
    )
    found = measure_loss_scale(terms, weights, [0.1, 0.5])
    assert found.gradients == {
        'loss_a': pytest.approx(8**0.5),
        'loss_b': pytest.approx((36 + 64 + 9) ** 0.5),
    }
    assert found.total == pytest.approx((8**2 + 10**2 + 3**2) ** 0.5)
    assert found.weight_decay == pytest.approx((0.3**2 + 0.4**2 + 1.0**2) ** 0.5)
    assert found.warning() is None
    assert 'times weight decay' in str(found)


def test_a_term_without_effect_is_warned_of_with_the_factor_that_helps():
    warning = LossScale({'loss_align': 0.5, 'loss_ce': 0.1}, 0.5, 2.0).warning()
    assert 'weight decay pulls 4 times as hard' in warning
    assert 'loss_align is level with it at 4 times its weight' in warning
    assert 'have no gradient' in LossScale({'loss_align': 0.0}, 0.0, 2.0).warning()
    assert LossScale({'loss_align': 0.0}, 0.0, 0.0).warning() is None


def test_the_unexplained_variance_is_shown():
    text = str(LossScale({'loss_align': 1.0}, 1.0, 0.0, {'training': 0.25, 'validation': 0.5}))
    assert 'no weight decay' in text
    assert text.endswith('unexplained variance 0.25 (training), 0.50 (validation)')


def test_nothing_is_left_of_a_measurement():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout())
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with untouched(model):
        model(torch.randn(4, 1, 8, 8)).sum().backward()
        assert not torch.equal(model[1].running_mean, before['1.running_mean'])
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
