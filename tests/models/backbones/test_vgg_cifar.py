"""VGG that pools as the code of the distillation papers does."""

import pytest
import torch
import torch.nn.functional as F

from mmkdfuse.models.backbones import VGG, VGG_CIFAR
from mmkdfuse.models.probe import probe_stages


@pytest.mark.parametrize(
    'size, sides',
    [
        (32, (16, 8, 4, 4)),
        (64, (32, 16, 8, 4)),
        (224, (112, 56, 28, 28)),
        ((64, 32), ((32, 16), (16, 8), (8, 4), (4, 2))),
        ((32, 64), ((16, 32), (8, 16), (4, 8), (4, 8))),
        (48, (24, 12, 6, 6)),
    ],
)
def test_the_fourth_pool_is_for_images_64_pixels_high(size, sides):
    net = VGG_CIFAR(8, base_channels=1)
    channels = (2, 4, 8, 8)
    pairs = [side if isinstance(side, tuple) else (side, side) for side in sides]
    assert probe_stages(net, size) == [(c, *p) for c, p in zip(channels, pairs, strict=True)]


def test_maps_are_those_of_the_blocks_in_a_row():
    net = VGG_CIFAR(8, base_channels=2)
    net.eval()
    blocks = [layer for layer in net.features if hasattr(layer, 'conv')]
    for size in (32, 64):
        x = images = torch.randn(2, 3, size, size)
        expected = []
        for number, block in enumerate(blocks):
            x = block(x)
            expected.append(x)
            if number < 3 or (number == 3 and size == 64):
                x = F.max_pool2d(x, 2)
        assert all(torch.equal(a, b) for a, b in zip(net(images), expected[1:], strict=True))


def test_weights_are_named_as_those_of_the_vgg_that_pools_five_times():
    ours, theirs = VGG_CIFAR(11, base_channels=2), VGG(11, base_channels=2)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    ours.eval(), theirs.eval()
    images = torch.randn(1, 3, 64, 64)
    *first, last = ours(images)
    *others, pooled = theirs(images)
    assert all(torch.equal(a, b) for a, b in zip(first, others, strict=True))
    assert torch.equal(F.max_pool2d(last, 2), pooled)


def test_norm_can_be_left_out():
    net = VGG_CIFAR(16, base_channels=2, norm_cfg=None)
    assert not any('bn' in key for key in net.state_dict())
    assert len([key for key in net.state_dict() if key.endswith('.weight')]) == 13


def test_depths_without_a_network_are_refused():
    with pytest.raises(
        ValueError, match=r'VGG_CIFAR: depth=12 must be one of \(8, 11, 13, 16, 19\)'
    ):
        VGG_CIFAR(12)
