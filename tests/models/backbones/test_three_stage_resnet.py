"""ResNets of three stages."""

import pytest
import torch
from torch import nn

from mmkdfuse.models.backbones import ThreeStageResNet
from mmkdfuse.models.probe import probe_stages


@pytest.mark.parametrize('depth, blocks', [(8, 1), (14, 2), (32, 5)])
def test_depth_counts_the_layers(depth, blocks):
    net = ThreeStageResNet(depth, base_channels=2, stem_channels=2)
    assert [len(net.layer1), len(net.layer2), len(net.layer3)] == 3 * [blocks]
    kernels = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(kernels) + 1 == depth  # and the classifier
    assert probe_stages(net, (40, 24)) == [(2, 40, 24), (4, 20, 12), (8, 10, 6)]


def test_shortcuts_are_convolutions_where_channels_change():
    wide, narrow = ThreeStageResNet(14, base_channels=32), ThreeStageResNet(14, base_channels=16)
    for net, first in ((wide, True), (narrow, False)):
        found = [layer[0].downsample is not None for layer in (net.layer1, net.layer2, net.layer3)]
        assert found == [first, True, True] and net.layer1[1].downsample is None


def test_every_map_is_activated():
    net = ThreeStageResNet(8, base_channels=4)
    net.eval()
    assert all((m >= 0).all() and (m > 0).any() for m in net(torch.randn(2, 3, 32, 32)))


def test_options_of_mmpretrain_are_handed_on():
    net = ThreeStageResNet(8, base_channels=4, zero_init_residual=True, frozen_stages=1)
    net.init_weights()
    assert not net.layer3[0].bn2.weight.any()
    trained = {name.split('.')[0] for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {'layer2', 'layer3'}


@pytest.mark.parametrize('depth', [2, 18, 128, None])
def test_other_depths_are_refused(depth):
    with pytest.raises(ValueError, match=f'depth={depth} must be 8, 14, 20'):
        ThreeStageResNet(depth)
