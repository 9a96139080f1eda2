"""Arguments that our own backbones share."""

import functools

import pytest
import torch

from mmkdfuse.models.backbones import VGG, MobileNetV1, SqueezeNet

BACKBONES = pytest.mark.parametrize(
    'backbone', [functools.partial(VGG, 11), SqueezeNet, MobileNetV1], ids=['VGG', 'Squ', 'Mob']
)


@BACKBONES
@pytest.mark.parametrize('out_indices', [(), (3, 0), (1, 1), (0, 4), (-1,)])
def test_stages_that_do_not_exist_are_refused(backbone, out_indices):
    with pytest.raises(ValueError, match=r'out_indices=\(.* must be ascending stage numbers'):
        backbone(out_indices=out_indices)


@BACKBONES
@pytest.mark.parametrize('base_channels', [0, -4, 2.5, None])
def test_widths_that_are_none_are_refused(backbone, base_channels):
    with pytest.raises(ValueError, match=f'base_channels={base_channels} must be a positive'):
        backbone(base_channels=base_channels)


@BACKBONES
def test_single_stages_equal_those_of_all(backbone):
    net = backbone(base_channels=2)
    net.eval()
    images = torch.randn(1, 3, 32, 32)
    maps = net(images)
    assert len(maps) == 4
    for index in range(4):
        one = backbone(base_channels=2, out_indices=[index])
        one.load_state_dict(net.state_dict(), strict=True)
        one.eval()
        (found,) = one(images)
        assert torch.equal(found, maps[index])
