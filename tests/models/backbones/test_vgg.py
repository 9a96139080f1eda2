"""VGG with the layers of mmpretrain's and other stages."""

import pytest
import torch
from mmpretrain.models import backbones as mmpretrain_backbones
from torch import nn

from mmkdfuse.models.backbones import VGG

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.filterwarnings('ignore:Unnecessary conv bias')  # of mmpretrain's
@pytest.mark.parametrize('depth', [11, 16, 19])
def test_keys_and_final_map_are_those_of_mmpretrain(depth):
    ours = VGG(depth)
    theirs = mmpretrain_backbones.VGG(depth, norm_cfg=dict(type='BN'))
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    ours.eval(), theirs.eval()
    with torch.no_grad():
        assert torch.equal(ours(IMAGES)[-1], theirs(IMAGES)[-1])


@pytest.mark.parametrize('depth', [11, 13, 16, 19])
def test_stages_end_before_their_pool(depth):
    net = VGG(depth, base_channels=2)
    net.eval()
    maps = net(IMAGES)
    assert [tuple(m.shape[1:]) for m in maps] == [(4, 16, 16), (8, 8, 8), (16, 4, 4), (16, 1, 1)]
    blocks = []  # every pool closes a block
    x = IMAGES
    for layer in net.features:
        if isinstance(layer, nn.MaxPool2d):
            blocks.append(x)
        x = layer(x)
    expected = (*blocks[1:4], x)
    assert all(torch.equal(m, e) for m, e in zip(maps, expected, strict=True))


def test_narrow_keys_are_those_of_the_full_width():
    assert list(VGG(11, base_channels=2).state_dict()) == list(VGG(11).state_dict())


def test_out_indices_choose():
    net = VGG(11, base_channels=2)
    net.eval()
    chosen = VGG(11, base_channels=2, out_indices=(1, 3))
    chosen.load_state_dict(net.state_dict())
    chosen.eval()
    maps = net(IMAGES)
    assert all(torch.equal(a, b) for a, b in zip(chosen(IMAGES), (maps[1], maps[3]), strict=True))


def test_blocks_can_be_frozen_and_norm_left_alone():
    net = VGG(11, base_channels=2, frozen_stages=2, norm_eval=True)
    net.train()
    trained = {name.split('.')[1] for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {'4', '5', '7', '8', '10', '11'}
    before = net.features[4].bn.running_mean.clone()
    net(IMAGES)
    assert torch.equal(net.features[4].bn.running_mean, before)


def test_norm_can_be_left_out():
    assert not any('bn' in key for key in VGG(11, base_channels=2, norm_cfg=None).state_dict())


def test_building_warns_of_nothing(recwarn):
    VGG(11, base_channels=2)
    assert not recwarn.list


def test_depths_without_a_network_are_refused():
    with pytest.raises(ValueError, match=r'VGG: depth=12 must be one of \(11, 13, 16, 19\)'):
        VGG(12)
