"""Convolving the small map is upsampling and convolving."""

import copy

import pytest
import torch
import torch.nn.functional as F

from mmkdfuse.models.inference.upsampled_conv import UpsampledConv2d

# Where gradients are needed, the plain convolution is what runs.
pytestmark = pytest.mark.usefixtures('no_grad')


@pytest.fixture
def no_grad():
    with torch.no_grad():
        yield


def plain(conv, x, size):
    return F.conv2d(F.interpolate(x, size), conv.weight, conv.bias, padding=1)


@pytest.mark.parametrize('size', [(4, 5), (8, 10), (12, 15), (16, 5), (8, 25), (7, 10), (3, 3)])
def test_it_is_the_plain_convolution(size):
    conv, x = UpsampledConv2d(3, 4).double(), torch.randn(2, 3, 4, 5).double()
    torch.testing.assert_close(conv(x, size), plain(conv, x, size))


def test_it_can_be_trained():
    conv, x = UpsampledConv2d(3, 4), torch.randn(2, 3, 4, 4)
    conv(x, (8, 8))
    with torch.enable_grad():
        gradients = torch.autograd.grad(conv(x, (8, 8)).square().sum(), conv.parameters())
        expected = torch.autograd.grad(plain(conv, x, (8, 8)).square().sum(), conv.parameters())
    torch.testing.assert_close(gradients, expected)


def test_other_weights_are_noticed():
    conv, x = UpsampledConv2d(3, 4), torch.randn(2, 3, 4, 4)
    conv(x, (8, 8))
    twin = copy.deepcopy(conv)
    state = {name: torch.randn_like(value) for name, value in conv.state_dict().items()}
    twin.load_state_dict(state)
    torch.testing.assert_close(twin(x, (8, 8)), plain(twin, x, (8, 8)))
    torch.testing.assert_close(conv(x, (8, 8)), plain(conv, x, (8, 8)))
    conv.double()
    torch.testing.assert_close(conv(x.double(), (8, 8)), plain(conv, x.double(), (8, 8)))
