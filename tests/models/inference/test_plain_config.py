"""Configs that mmpretrain alone can build."""

import pytest
import torch
from mmpretrain.registry import MODELS as UPSTREAM

from mmkdfuse.models.inference.plain_config import (
    last_map_only,
    plain_backbone,
    plain_config,
    types_in,
)
from mmkdfuse.models.networks import network_config
from mmkdfuse.registry import MODELS


def test_types_of_this_package_get_its_prefix():
    cfg = dict(type='KFMNeck', kfm=dict(type='KFM'), steps=[dict(type='RegNet', norm=(1, 2))])
    plain = plain_config(cfg)
    assert plain == dict(
        type='mmkdfuse.KFMNeck',
        kfm=dict(type='mmkdfuse.KFM'),
        steps=[dict(type='RegNet', norm=(1, 2))],
    )
    assert cfg['type'] == 'KFMNeck'
    assert plain_config(dict(type='mmpretrain.VGG')) == dict(type='mmpretrain.VGG')
    assert types_in(plain) == {'mmkdfuse.KFMNeck', 'mmkdfuse.KFM', 'RegNet'}


def test_what_only_training_needs_goes():
    cfg = dict(type='ResNet', depth=18, frozen_stages=2, init_cfg=dict(type='Pretrained'))
    assert plain_config(dict(backbone=cfg)) == dict(backbone=dict(type='ResNet', depth=18))


@pytest.mark.filterwarnings('ignore:Unnecessary conv bias')
@pytest.mark.parametrize('depth', [11, 13])
def test_vgg_is_mmpretrains(depth):
    ours = MODELS.build(dict(type='mmkdfuse.VGG', depth=depth))
    cfg = last_map_only(plain_backbone(dict(type='VGG', depth=depth), ours))
    assert cfg['type'] == 'mmpretrain.VGG'
    theirs = UPSTREAM.build(cfg)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    ours.eval()
    theirs.eval()
    image = torch.randn(1, 3, 32, 32)
    (found,) = theirs(image)
    torch.testing.assert_close(found, ours(image)[-1], rtol=0, atol=0)


@pytest.mark.parametrize(
    'changes', [dict(base_channels=4), dict(out_indices=(0, 1)), dict(norm_cfg=None)]
)
def test_vgg_that_mmpretrain_lacks_stays_ours(changes):
    cfg = dict(type='mmkdfuse.VGG', depth=11, **changes)
    plain = last_map_only(plain_backbone(cfg, MODELS.build(cfg)))
    if 'norm_cfg' in changes:
        assert (plain['type'], plain['norm_cfg']) == ('mmpretrain.VGG', None)
    else:
        assert plain['type'] == 'mmkdfuse.VGG'


@pytest.mark.parametrize('name', ['resnet18', 'squeezenet', 'mobilenet_v1', 'resnext50_32x4d'])
def test_only_the_last_map_is_returned(name):
    cfg = network_config(name)['backbone']
    whole = MODELS.build(cfg)
    plain = plain_backbone(cfg, whole)
    assert plain['out_indices'] == (0, 1, 2, 3)
    last = MODELS.build(last_map_only(plain))
    last.load_state_dict(whole.state_dict(), strict=True)
    assert len(last(torch.zeros(2, 3, 32, 32))) == 1


def test_a_backbone_without_choice_of_outputs():
    backbone = torch.nn.Conv2d(3, 3, 1)
    backbone.out_indices = (0, 1)
    cfg = plain_backbone(dict(type='Conv'), backbone)
    assert cfg == last_map_only(cfg) == dict(type='Conv')
