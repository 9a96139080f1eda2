"""WRN with pre-activation."""

import pytest
import torch
from torch import nn

from mmkdfuse.models.backbones import WideResNet
from mmkdfuse.models.backbones.wide_resnet import PreActivationBlock
from mmkdfuse.models.probe import probe_stages


def network():
    torch.manual_seed(0)
    net = WideResNet(10, base_channels=4)
    net.init_weights()
    net.eval()
    return net


def test_only_the_last_map_is_activated():
    net = network()
    first, second, third = net(torch.randn(2, 3, 32, 32))
    assert (first < 0).any() and (second < 0).any()
    assert (third >= 0).all() and (third > 0).any()
    *blocks, norm, _ = net.layer3
    assert all(isinstance(block, PreActivationBlock) for block in blocks)
    x = second
    for block in blocks:
        x = block(x)
    assert torch.equal(torch.relu(norm(x)), third)


def test_a_block_whose_convolutions_are_silent_gives_its_input():
    block = PreActivationBlock(4, 4)
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(block(x), x) and block.shortcut is None


def test_a_block_that_widens_takes_its_shortcut_behind_the_activation():
    block = PreActivationBlock(4, 6, stride=2)
    nn.init.zeros_(block.conv2.weight)
    block.eval()
    x = torch.randn(2, 4, 8, 8)
    active = torch.relu(x / (1 + 1e-5) ** 0.5)[:, :, ::2, ::2]
    expected = torch.einsum('oi,nihw->nohw', block.shortcut.weight[..., 0, 0], active)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize('depth, blocks', [(10, 1), (16, 2), (40, 6)])
def test_depth_counts_the_convolutions(depth, blocks):
    net = WideResNet(depth, base_channels=2, stem_channels=2)
    kernels = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(kernels) == 1 + 6 * blocks == depth - 3
    assert probe_stages(net, (40, 24)) == [(2, 40, 24), (4, 20, 12), (8, 10, 6)]


@pytest.mark.parametrize('depth', [4, 28.0, 38, None])
def test_other_depths_are_refused(depth):
    with pytest.raises(ValueError, match=f'depth={depth} must be 10, 16, 22'):
        WideResNet(depth)
