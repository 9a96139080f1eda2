"""Backbones of every kind lose the layers that their first stages do not need, and nothing else."""

import copy

import pytest
import torch
from torch import nn

from mmkdfuse.analysis.cost import count_cost
from mmkdfuse.models.inference.truncated_backbone import (
    Skip,
    TruncatedBackbone,
    find_needs,
    truncate,
)
from mmkdfuse.models.networks import network_config
from mmkdfuse.registry import MODELS

ALL = (0, 1, 2, 3)
STAGES = dict(depths=[1, 1, 2, 1], channels=[4, 8, 12, 16])
SWIN = dict(
    type='mmpretrain.SwinTransformer',
    arch=dict(embed_dims=4, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]),
    img_size=32,
    pad_small_map=True,
    out_indices=ALL,
)
BACKBONES = {
    'ResNet_CIFAR': dict(arch='resnet18', base_channels=4, stem_channels=4),
    'ResNet': dict(
        type='mmpretrain.ResNet', depth=18, base_channels=4, stem_channels=4, out_indices=ALL
    ),
    'VGG': dict(arch='vgg11', base_channels=4),
    'SqueezeNet': dict(arch='squeezenet', base_channels=2),
    'MobileNetV1': dict(arch='mobilenet_v1', base_channels=4),
    'ResNeXt_CIFAR': dict(arch='resnext50_32x4d', base_channels=16),
    'RegNet': dict(
        type='mmpretrain.RegNet',
        arch=dict(w0=8, wa=8.0, wm=1.8, group_w=4, depth=5, bot_mul=1.0),
        out_indices=ALL,
    ),
    'MobileNetV2': dict(type='mmpretrain.MobileNetV2', widen_factor=0.25, out_indices=(1, 2, 4, 6)),
    'ShuffleNetV2': dict(type='mmpretrain.ShuffleNetV2', widen_factor=0.5, out_indices=(0, 1, 2)),
    'ConvNeXt': dict(
        type='mmpretrain.ConvNeXt', arch=STAGES, gap_before_final_norm=False, out_indices=ALL
    ),
    'Swin': SWIN,
    'Swin after downsampling': {**SWIN, 'out_after_downsample': True},
    'EfficientNet': dict(type='mmpretrain.EfficientNet', arch='b0', out_indices=(2, 3, 4, 6)),
    'PoolFormer, frozen by default': dict(
        type='mmpretrain.PoolFormer',
        arch=dict(
            layers=[1, 1, 1, 1],
            embed_dims=[4, 8, 12, 16],
            mlp_ratios=[2, 2, 2, 2],
            layer_scale_init_value=1e-5,
        ),
        out_indices=(0, 2, 4, 6),
    ),
    'VAN, whose embeddings return a size': dict(
        type='mmpretrain.VAN',
        arch=dict(embed_dims=[4, 8, 8, 12], depths=[1, 1, 1, 1], ffn_ratios=[2, 2, 2, 2]),
        out_indices=ALL,
    ),
}
SIZE = 32


def build(backbone):
    torch.manual_seed(0)
    return MODELS.build(network_config(backbone)['backbone'])


def images_of(*size, count=2):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


def size_of(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize('backbone', BACKBONES.values(), ids=list(BACKBONES))
def test_first_maps_are_the_same_and_the_rest_is_gone(backbone):
    whole = build(backbone)
    first = TruncatedBackbone(backbone, stages=2, image_size=SIZE)
    state = {name: whole.state_dict()[name] for name in first.network.state_dict()}
    first.network.load_state_dict(state, strict=True)
    whole.eval()
    first.eval()
    with torch.no_grad():
        expected, found = whole(images_of(SIZE, SIZE)), first(images_of(SIZE, SIZE))
    assert len(found) == 2
    for a, b in zip(found, expected[:2], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    shape = (3, SIZE, SIZE)
    assert size_of(first) < 0.6 * size_of(whole)
    assert count_cost(first, shape).macs < 0.95 * count_cost(whole, shape).macs


def test_every_number_of_stages_and_other_sizes():
    whole = build(BACKBONES['ResNet_CIFAR'])
    whole.eval()
    images = images_of(24, 40)
    sizes = []
    for stages in (1, 2, 3, 4):
        first = truncate(whole, stages, SIZE)
        with torch.no_grad():
            found = first(images)
            assert all(torch.equal(a, b) for a, b in zip(found, whole(images), strict=False))
        sizes.append(size_of(first))
        assert len(found) == stages
    assert sizes == sorted(set(sizes)) and sizes[-1] == size_of(whole)
    kept = {name.split('.')[0] for name, _ in truncate(whole, 2, SIZE).named_parameters()}
    assert kept == {'conv1', 'bn1', 'layer1', 'layer2'}


def test_what_a_stage_needs_beyond_the_one_before():
    whole = build(BACKBONES['SqueezeNet'])
    unneeded = [set(find_needs(whole, SIZE, stages).unneeded) for stages in (1, 2, 3, 4)]
    assert unneeded[0] == {f'fire{number}' for number in range(4, 10)}
    assert unneeded[0] - unneeded[1] == {'fire4', 'fire5'}
    assert unneeded[1] - unneeded[2] == {'fire6', 'fire7', 'fire8'}
    assert unneeded[2] - unneeded[3] == {'fire9'} and not unneeded[3]


def test_norm_layers_of_outputs_that_are_gone_go_too():
    first = truncate(build(SWIN), 2, SIZE)
    norms = {name.split('.')[0] for name, _ in first.named_parameters() if name.startswith('norm')}
    assert norms == {'norm0', 'norm1'}


def test_a_layer_behind_the_last_map_goes():
    whole = build(BACKBONES['ShuffleNetV2'])
    assert truncate(whole, 3, SIZE).state_dict().keys() < whole.state_dict().keys()


def test_the_backbone_is_left_as_it_was():
    whole = build({**BACKBONES['ResNet'], 'frozen_stages': 1})
    before = copy.deepcopy(whole)
    state = torch.get_rng_state()
    first = truncate(whole, 1, SIZE)
    assert torch.equal(torch.get_rng_state(), state)
    assert whole.out_indices == ALL and str(whole) == str(before)
    for (name, a), (_, b) in zip(whole.named_parameters(), before.named_parameters(), strict=True):
        assert torch.equal(a, b) and a.requires_grad == b.requires_grad, name
        assert a.grad is None
    trained, before = first.state_dict(), before.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in trained.items())
    assert first.training and whole.training
    # The frozen first stage is needed all the same.
    assert 'layer1.0.conv1.weight' in trained


class AllAtOnce(nn.Module):
    """Computes the deep map first: the shallow one cannot do without it."""

    def __init__(self):
        super().__init__()
        self.deep = nn.Conv2d(3, 4, 3, 2)
        self.shallow = nn.Conv2d(4, 4, 1)
        self.tail = nn.Conv2d(4, 6, 1)

    def forward(self, x):
        deep = self.deep(x)
        return self.shallow(deep), deep, self.strict(self.tail(deep))

    def strict(self, x):
        if x.shape[1] != 6:
            raise RuntimeError('six channels expected')
        return x


def test_a_backbone_that_does_not_allow_it_stays_whole():
    whole = AllAtOnce()
    assert find_needs(whole, SIZE, 2).unneeded == ['tail']
    assert truncate(whole, 2, SIZE) is whole
    assert find_needs(whole, SIZE, 3).unneeded == []


def test_the_same_config_gives_the_same_layers():
    backbone = BACKBONES['MobileNetV2']
    first, second = (TruncatedBackbone(backbone, 2, SIZE) for _ in range(2))
    second.load_state_dict(first.state_dict(), strict=True)
    first.eval()
    second.eval()
    pairs = zip(first(images_of(48, 32)), second(images_of(48, 32)), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_stand_in_hands_its_inputs_on():
    module = nn.Linear(2, 3)
    x, size = torch.ones(1, 2), (1, 2)
    assert Skip(module, None)(x, size) is x
    assert Skip(module, 2)(x, size, flag=True) == (x, size)
    skip = Skip(module, None)
    assert skip.in_features == 2 and not list(skip.parameters()) and not skip.state_dict()


@pytest.mark.parametrize('stages', [0, 5])
def test_stages_that_do_not_exist(stages):
    with pytest.raises(ValueError, match=f'stages={stages} must be from 1 to 4, .* ResNet_CIFAR'):
        TruncatedBackbone(BACKBONES['ResNet_CIFAR'], stages, SIZE)
    with pytest.raises(ValueError, match=f'stages={stages} must be from 1 to 4, .* ResNet_CIFAR'):
        find_needs(build(BACKBONES['ResNet_CIFAR']), SIZE, stages)


def test_a_backbone_that_does_not_exist():
    with pytest.raises(ValueError, match='is not a known network'):
        TruncatedBackbone('resnet81', 1, SIZE)


def test_truncation_does_not_depend_on_the_gradient_mode():
    config = network_config(BACKBONES['ResNet_CIFAR'])['backbone']
    backbone = MODELS.build(config)
    with torch.no_grad():
        found = truncate(backbone, 1, 32)
    assert found is not backbone
    assert found.state_dict().keys() == truncate(backbone, 1, 32).state_dict().keys()
