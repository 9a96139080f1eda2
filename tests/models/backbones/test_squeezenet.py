"""SqueezeNet with batch norm and bypass."""

import pytest
import torch
from torch import nn

from mmkdfuse.models.backbones import SqueezeNet

IMAGES = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def silence(module):
    """Let a module give zeros."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)


@pytest.mark.parametrize('number', range(2, 10))
def test_three_five_and_seven_are_bypassed(number):
    """Behind a silent fire module everything is independent of the image unless it is bypassed."""
    net = SqueezeNet(base_channels=2)
    net.eval()
    silence(getattr(net, f'fire{number}'))
    one, other = net(IMAGES)[-1], net(IMAGES.flip(1))[-1]
    assert torch.equal(one, other) != (number in (3, 5, 7))


def test_stages_are_cut_at_the_fire_modules_of_the_docstring():
    net = SqueezeNet(base_channels=2)
    net.eval()
    first, second, third, fourth = net(IMAGES)
    x = net.pool(net.fire4(first))
    assert torch.equal(second, x + net.fire5(x))
    x = net.fire6(second)
    assert torch.equal(third, net.pool(net.fire8(x + net.fire7(x))))
    assert torch.equal(fourth, net.fire9(third))
    assert [m.shape[1] for m in (first, second, third, fourth)] == [16, 32, 64, 64]
