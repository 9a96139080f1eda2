"""The merged connector gives the same map and costs no more."""

from itertools import combinations

import pytest
import torch
from torch import nn

from mmkdfuse.analysis.cost import count_cost
from mmkdfuse.models.connectors import MBCAConnector
from mmkdfuse.models.connectors.mbca import BRANCHES
from mmkdfuse.models.inference import MergedMBCAConnector

SUBSETS = [names for count in range(1, 5) for names in combinations(BRANCHES, count)]


def make(branches=('bottleneck', 'sandglass', 'sandglass_plus'), c_s=5, c_t=6, **kwargs):
    torch.manual_seed(0)
    connector = MBCAConnector(c_s, c_t, branches=branches, **kwargs)
    for module in connector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return connector.eval()


@torch.no_grad()
def assert_equal(connector, merged, own, goal):
    x = torch.randn(2, 5, *own)
    expected, found = connector(x, goal), merged(x, goal)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize('branches', SUBSETS, ids='+'.join)
@pytest.mark.parametrize('upsample', ['nearest', 'bilinear', 'transposed', None])
def test_every_subset_and_way_to_upsample(branches, upsample):
    connector = make(branches, upsample=upsample, scale=2)
    assert_equal(connector, MergedMBCAConnector.merge(connector), (4, 4), (8, 8))


@pytest.mark.parametrize('upsample', ['nearest', 'bilinear', None])
@pytest.mark.parametrize(
    ('scale', 'own', 'goal'),
    [
        (1, (8, 8), (8, 8)),
        (2, (4, 6), (8, 12)),
        (4, (2, 2), (8, 8)),
        (3, (1, 1), (3, 3)),
        (1.75, (4, 4), (7, 7)),
        (0.5, (8, 8), (4, 4)),
        (2, (4, 4), (4, 8)),
    ],
)
def test_all_sizes(scale, own, goal, upsample):
    connector = make(upsample=upsample, scale=scale)
    assert_equal(connector, MergedMBCAConnector.merge(connector), own, goal)


def test_other_ratios_than_the_probed_one():
    connector = make(scale=2)
    merged = MergedMBCAConnector.merge(connector)
    for own, goal in [((4, 4), (4, 4)), ((4, 4), (12, 12)), ((5, 4), (9, 8)), ((8, 8), (4, 4))]:
        assert_equal(connector, merged, own, goal)


def test_a_config_builds_what_the_weights_fit():
    connector = make(scale=2)
    merged = MergedMBCAConnector.merge(connector)
    built = MergedMBCAConnector(**connector.arguments).eval()
    built.load_state_dict(merged.state_dict())
    assert_equal(connector, built, (4, 4), (8, 8))


def test_the_original_is_left_as_it_was():
    connector = make().train()
    before = {name: value.clone() for name, value in connector.state_dict().items()}
    MergedMBCAConnector.merge(connector)
    assert connector.training and all(module.training for module in connector.modules())
    after = connector.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_smaller_map_costs_fewer_products():
    """For every small pixel and pair of channels 16 instead of 36 in the wide convolution."""

    class Path(nn.Module):
        def __init__(self, connector):
            super().__init__()
            self.connector = connector

        def forward(self, x):
            return self.connector(x, (8, 8))

    connector = make(scale=2)
    merged = MergedMBCAConnector.merge(connector)
    assert_equal(connector, merged, (4, 4), (8, 8))  # adds up the taps, once
    before, after = (count_cost(Path(each), (5, 4, 4)) for each in (connector, merged))
    wide, point = 2 * 5 * 6 * 4 * 4 * (36 - 16), 5 * 3 * 4 * 4 * (4 - 1)
    assert before.macs - after.macs == wide + point
    assert after.parameters < before.parameters
