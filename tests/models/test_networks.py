"""Networks by name."""

import pytest

from mmkdfuse.models import Classifier
from mmkdfuse.models.networks import network_config, network_names


def test_names_are_sorted_and_known():
    names = network_names()
    assert names == sorted(names) and 'resnet18' in names


@pytest.mark.parametrize('name', network_names())
def test_every_network_yields_maps_that_get_no_larger(name):
    shapes = Classifier(backbone=name, num_classes=2, image_size=32).stage_shapes
    assert len(shapes) >= 2
    assert shapes == sorted(shapes, key=lambda shape: (-shape[1], shape[0]))


def test_resnet18_has_the_stages_of_the_paper():
    model = Classifier(backbone='resnet18', num_classes=100, image_size=32)
    assert model.stage_shapes == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


def test_changes_go_into_the_backbone_and_not_into_the_table():
    changed = network_config(dict(arch='resnet18', base_channels=4))
    assert changed['backbone']['base_channels'] == 4 and changed['backbone']['depth'] == 18
    assert 'base_channels' not in network_config('resnet18')['backbone']


def test_complete_configs_pass_unchanged():
    cfg = dict(type='mmpretrain.RegNet', arch='regnetx_400mf')
    found = network_config(cfg)
    assert found == dict(backbone=cfg) and found['backbone'] is not cfg


@pytest.mark.parametrize('backbone', ['resnet81', dict(arch='ResNet18')])
def test_the_nearest_name_is_offered(backbone):
    with pytest.raises(ValueError, match="is not a known network; did you mean 'resnet18'"):
        network_config(backbone)


def test_all_names_are_given_where_none_is_near():
    with pytest.raises(
        ValueError, match="backbone='xyz' is not a known network; known: .*resnet18"
    ):
        network_config('xyz')


def test_a_config_without_type_and_arch_is_refused():
    with pytest.raises(ValueError, match='needs `type` .* or `arch`'):
        network_config(dict(depth=18))
