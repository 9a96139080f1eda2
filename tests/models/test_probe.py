"""What a dry run finds, and that it leaves no trace."""

import pytest
import torch
from torch import nn

from mmkdfuse.models.probe import as_size, dry_run, freeze_unreached, probe_stages, stage_maps


class TwoStages(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.second = nn.Conv2d(4, 6, 3, (2, 1), 1)

    def forward(self, x):
        x = self.first(x)
        return x, self.second(x)


@pytest.mark.parametrize(
    ('image_size', 'shapes'),
    [
        (32, [(4, 16, 16), (6, 8, 16)]),
        ((9, 7), [(4, 5, 4), (6, 3, 4)]),
        ([1, 2], [(4, 1, 1), (6, 1, 1)]),
    ],
)
def test_stage_shapes(image_size, shapes):
    assert probe_stages(TwoStages(), image_size) == shapes


def test_other_channels_precisions_and_devices():
    output = dry_run(nn.Conv2d(1, 2, 3).double(), 5, channels=1)
    assert output.dtype == torch.float64 and output.shape == (1, 2, 3, 3)
    assert probe_stages(TwoStages().to('meta'), 32) == [(4, 16, 16), (6, 8, 16)]
    assert dry_run(nn.Identity(), 4).shape == (1, 3, 4, 4)


def test_leaves_no_trace():
    network = TwoStages()
    network.first.eval()
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    assert not any(feature_map.requires_grad for feature_map in dry_run(network, 8))
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_modes_are_restored_after_an_error_too():
    network = TwoStages()
    with pytest.raises(RuntimeError):
        dry_run(network, 8, channels=5)
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize('image_size', [0, -3, (32,), (32, 0), (1, 2, 3), (32.0, 32)])
def test_refused_image_size_is_named(image_size):
    with pytest.raises(ValueError, match='image_size=.*positive integer or a .height, width. pair'):
        as_size(image_size)


def test_vectors_instead_of_maps_are_refused_with_the_argument_to_change():
    maps = (torch.zeros(1, 3, 4, 4), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r'backbone Net: output 1 has shape \(1, 3\), expected'):
        stage_maps(maps, 'Net')
    with pytest.raises(ValueError, match='gap_before_final_norm=False'):
        stage_maps([torch.zeros(1, 3)], 'Net')
    with pytest.raises(ValueError, match='backbone Net: returns one tensor, expected a tuple'):
        stage_maps(torch.zeros(1, 3, 4, 4), 'Net')
    with pytest.raises(ValueError, match='output 0 has shape'):
        stage_maps([(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3))], 'Net')


class Longer(TwoStages):
    """Has a layer that no output depends on, and one that was frozen before."""

    def __init__(self):
        super().__init__()
        self.third = nn.Conv2d(6, 8, 1)
        self.second.bias.requires_grad_(False)

    def forward(self, x):
        maps = super().forward(x)
        self.third(maps[-1])
        return maps


def test_parameters_that_no_map_depends_on_are_frozen():
    network = Longer()
    state = torch.get_rng_state()
    assert freeze_unreached(network, 8) == ['third.weight', 'third.bias']
    frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
    assert frozen == ['second.bias', 'third.weight', 'third.bias']
    assert all(p.grad is None for p in network.parameters())
    assert all(module.training for module in network.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert freeze_unreached(TwoStages().to('meta'), 8) == []


def test_a_frozen_network_stays_frozen():
    network = TwoStages().requires_grad_(False)
    assert freeze_unreached(network, 8) == []
    assert not any(p.requires_grad for p in network.parameters())
