"""The fast copy of a backbone: equal maps, an untouched original, refused where it differs."""

import copy

import pytest
import torch
from torch import nn

from mmkdfuse.models import Classifier
from mmkdfuse.models.teachers.fast_copy import fast_copy

IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def backbone_of(arch, base_channels=8):
    torch.manual_seed(0)
    network = Classifier(dict(arch=arch, base_channels=base_channels), 5, 32)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval().requires_grad_(False).backbone


def error(found, expected):
    return ((found.to(expected.dtype) - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize('arch', ['resnet8x4', 'wrn16_2', 'shufflenet_v2', 'vgg11_nobn'])
@pytest.mark.parametrize('size', [(32, 32), (40, 48)])
def test_maps_are_the_originals(arch, size):
    original = backbone_of(arch)
    before = copy.deepcopy(original.state_dict())
    fast = fast_copy(original, 32)
    images = torch.randn(3, 3, *size)
    for found, expected in zip(fast(images), original(images), strict=True):
        assert error(found, expected) < 1e-5
    after = original.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_it_has_neither_gradients_nor_foldable_norms_and_is_channels_last():
    fast = fast_copy(backbone_of('resnet8x4'), 32)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    assert fast(IMAGES)[-1].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_it_has_the_type_of_the_weights(dtype):
    original = backbone_of('resnet8x4').to(dtype)
    fast = fast_copy(original, 32)
    assert {tensor.dtype for tensor in fast.parameters()} == {dtype}
    exact = original.double()(IMAGES.double())[-1]
    limit = 1e-10 if dtype is torch.float64 else 0.03
    assert error(fast(IMAGES.to(dtype))[-1], exact) < limit


@pytest.mark.parametrize('arch', ['resnet8x4', 'mobilenet_v2'])
def test_under_autocast_it_is_as_exact_as_the_original(arch):
    original = backbone_of(arch)
    fast = fast_copy(original, 32)
    expected = original(IMAGES)[-1]
    with torch.autocast('cpu', torch.bfloat16):
        plain, found = original(IMAGES)[-1], fast(IMAGES)[-1]
    assert found.dtype == plain.dtype == torch.bfloat16
    assert error(found, expected) < 2 * error(plain, expected) < 0.1


class LayoutDependent(nn.Module):
    """Reads the strides of its weights, which nothing may."""

    def __init__(self, broken=1.0):
        super().__init__()
        self.conv, self.broken = nn.Conv2d(3, 4, 3), broken

    def forward(self, x):
        return (self.conv(x) * self.conv.weight.stride(1) * self.broken,)


def test_other_maps_are_refused():
    with pytest.raises(ValueError, match='LayoutDependent: map 0 of its fast form is off by'):
        fast_copy(LayoutDependent().eval(), 32)


def test_maps_without_values_are_refused():
    with pytest.raises(ValueError, match='off by nan'):
        fast_copy(LayoutDependent(broken=float('nan')).eval(), 32)


def test_mixed_precision_around_it_changes_nothing():
    original = backbone_of('resnet8x4')
    with torch.autocast('cpu', torch.bfloat16):
        fast = fast_copy(original, 32)
    assert error(fast(IMAGES)[-1], original(IMAGES)[-1]) < 1e-5
