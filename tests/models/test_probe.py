"""What a dry run finds, and that it leaves no trace."""

import pytest
import torch
from torch import nn

from mmkdfuse.models.probe import (
    as_size,
    dry_run,
    find_unreached,
    freeze_unreached,
    probe_stages,
    stage_maps,
)
from mmkdfuse.registry import MODELS


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


class Options(nn.Module):
    """Takes the arguments of a backbone that can return vectors."""

    def __init__(self, out_type='cls_token', num_classes=-1):
        super().__init__()


def test_vectors_instead_of_maps_are_refused_with_the_argument_to_change():
    maps = (torch.zeros(1, 3, 4, 4), torch.zeros(1, 3))
    with pytest.raises(ValueError) as info:
        stage_maps(maps, Options())
    assert str(info.value) == (
        'backbone Options: output 1 has shape (1, 3), expected a map (N, C, H, W); set '
        "`out_type='featmap'` or leave out `num_classes`, which adds a classifier to the backbone."
    )
    with pytest.raises(ValueError, match='TwoStages: output 0 .* none of its arguments keeps'):
        stage_maps([torch.zeros(1, 3)], TwoStages())


@pytest.mark.parametrize(
    ('output', 'problem'),
    [
        (torch.zeros(1, 3, 4, 4), 'returns one tensor, expected a tuple of maps'),
        ([(torch.zeros(1, 3, 4, 4),)], 'output 0 is a tuple, expected a map'),
        ((None, torch.zeros(1, 3, 4, 4)), 'output 0 is a NoneType, expected a map'),
    ],
)
def test_what_is_no_tuple_of_maps_is_refused(output, problem):
    with pytest.raises(ValueError, match=f'backbone Net: {problem}'):
        stage_maps(output, 'Net')


@pytest.mark.parametrize(
    ('backbone', 'size', 'device', 'sentence'),
    [
        (
            dict(type='VGG', depth=11, num_classes=4),
            32,
            'meta',  # 120 million weights
            'VGG: fails on an image of image_size=32 .*; change `image_size` or '
            'leave out `num_classes`',
        ),
        (
            dict(type='TinyViT', arch='5m', img_size=(64, 64), gap_before_final_norm=False),
            96,
            'cpu',
            'TinyViT: fails on an image of image_size=96 .*change `image_size` or set `img_size`',
        ),
        (
            dict(type='ConvNeXt', arch='atto'),
            32,
            'cpu',
            'ConvNeXt: output 0 has shape .*; set `gap_before_final_norm=False`',
        ),
        (
            dict(type='InceptionV3', num_classes=4),
            96,
            'meta',
            'InceptionV3: output 0 is a NoneType, .*; leave out `num_classes`',
        ),
    ],
    ids=['VGG', 'TinyViT', 'ConvNeXt', 'InceptionV3'],
)
def test_backbones_that_give_no_maps_name_what_to_change(backbone, size, device, sentence):
    with torch.device(device):
        network = MODELS.build({**backbone, 'type': f'mmpretrain.{backbone["type"]}'})
    with pytest.raises(ValueError, match=sentence):
        probe_stages(network, size)


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


class Caching(nn.Module):
    """Uses a copy of its weight in eval mode, as LeViT and TinyViT do; has dropout and a norm."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.convolution = nn.Conv2d(3, 4, 1)
        self.norm, self.dropout = nn.BatchNorm2d(4), nn.Dropout(0.5)

    def train(self, mode=True):
        if mode:
            vars(self).pop('copy', None)
        else:
            self.copy = self.weight.detach().clone()
        return super().train(mode)

    def forward(self, x):
        weight = self.weight if self.training else self.copy
        x = self.dropout(self.norm(self.convolution(x)))
        return (x * weight[:, None, None],)


@pytest.mark.parametrize('training', [True, False])
def test_weights_that_are_cached_in_eval_mode_are_trained(training):
    """Also at a single pixel, where batch norm refuses to train."""
    network = Caching().train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    assert probe_stages(network, 1) == [(4, 1, 1)]
    assert freeze_unreached(network, 1) == []
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert ('copy' in vars(network)) is not training
    assert {module.training for module in network.modules()} == {training}
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_unreached_parameters_of_a_network_that_returns_one_tensor():
    classifier = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten())
    classifier[0].bias.requires_grad_(False)
    assert find_unreached(classifier, 2) == []
    network = Longer()
    assert find_unreached(network, 8) == ['third.weight', 'third.bias']
    assert network.third.weight.requires_grad
