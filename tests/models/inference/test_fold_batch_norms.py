"""Batch norms disappear into convolutions, and nothing else changes."""

import pytest
import torch
from torch import nn

from mmkdfuse.models.classifiers.classifier import Classifier
from mmkdfuse.models.inference.fold_batch_norms import fold_batch_norms
from mmkdfuse.models.networks import network_names

# Pre-activation: most norms read a sum; only those between two convolutions fold.
PARTLY = ('wrn40_1', 'wrn40_2', 'wrn16_2')
NARROW = {'wrn50_2': 16, 'resnext50_32x4d': 32, 'resnet34_in': 8, 'resnet50_in': 8, 'resnet10': 8}
DEEP = ('resnet110', 'resnet116', 'resnet110x2')


def randomise(network):
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, std=0.1, generator=generator)
    return network.eval()


def norms(network):
    return [name for name, part in network.named_modules() if isinstance(part, nn.BatchNorm2d)]


def assert_folds(network, images):
    """Fold; return the names of the norms before and of those that are gone."""
    before = norms(network)
    with torch.no_grad():
        expected = network(images)
        folded = fold_batch_norms(network, images)
        found = network(images)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert norms(network) == [name for name in before if name not in folded]
    return before, folded


@pytest.mark.parametrize('name', [name for name in network_names() if name not in DEEP])
def test_every_network_by_name(name):
    backbone = dict(arch=name, base_channels=NARROW.get(name, 8))
    if name == 'shufflenet_v1':
        del backbone['base_channels']
    network = randomise(Classifier(backbone, 5, 32))
    before, folded = assert_folds(network, torch.randn(2, 3, 32, 32))
    if name in PARTLY:
        first = 'backbone.layer1.0.bn1'  # behind the stem
        assert folded == [part for part in before if part == first or part.endswith('bn2')]
    else:
        assert folded == before


@pytest.mark.parametrize(
    'backbone',
    [
        dict(type='mmpretrain.RegNet', arch='regnetx_400mf', out_indices=(0, 1, 2, 3)),
        dict(type='mmpretrain.DenseNet', arch='121', out_indices=(0, 1, 2, 3)),
        dict(type='mmpretrain.RepVGG', arch='A0', out_indices=(0, 1, 2, 3)),
    ],
    ids=lambda backbone: backbone['type'],
)
def test_backbones_of_mmpretrain(backbone):
    _, folded = assert_folds(randomise(Classifier(backbone, 5, 64)), torch.randn(2, 3, 64, 64))
    assert folded


def test_the_pairs_do_not_depend_on_the_weights():
    folded = []
    for seed in range(2):
        torch.manual_seed(seed)
        network = randomise(Classifier(dict(arch='resnet8x4', base_channels=4), 3, 32))
        if seed:
            for parameter in network.parameters():
                parameter.data.zero_()
        folded.append(fold_batch_norms(network, torch.randn(2, 3, 32, 32)))
    assert folded[0] == folded[1]


class Net(nn.Module):
    def __init__(self, first, forward=None):
        super().__init__()
        self.first, self.norm, self.way = first, nn.BatchNorm2d(4), forward

    def forward(self, x):
        return self.way(self, x) if self.way else self.norm(self.first(x)).relu_()


@pytest.mark.parametrize(
    'conv',
    [
        nn.Conv2d(3, 4, 3, stride=2),
        nn.Conv2d(3, 4, 1, bias=False),
        nn.ConvTranspose2d(3, 4, 4, 2, 1),
    ],
    ids=['bias', 'no bias', 'transposed'],
)
def test_convolutions_of_all_kinds(conv):
    network = randomise(Net(conv))
    assert assert_folds(network, torch.randn(2, 3, 8, 8))[1] == ['norm']
    assert isinstance(network.norm, nn.Identity) and network.first.bias is not None


def four(x):
    return x[:, [0, 1, 2, 0]]


class Standardised(nn.Conv2d):
    def forward(self, x):
        weight = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
        return nn.functional.conv2d(x, weight, self.bias)


@pytest.mark.parametrize(
    'network',
    [
        Net(nn.Conv2d(3, 4, 1), lambda net, x: net.norm(y := net.first(x)) + y),
        Net(nn.Conv2d(3, 4, 1), lambda net, x: net.norm(net.first(x)) + net.first(x)),
        Net(nn.Conv2d(3, 4, 1), lambda net, x: net.norm(net.first(x).relu())),
        Net(nn.Conv2d(3, 4, 1), lambda net, x: net.norm(net.first(x).relu_())),
        Net(nn.Conv2d(3, 4, 1), lambda net, x: net.norm(input=net.first(x))),
        Net(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 1))),
        Net(nn.utils.spectral_norm(nn.Conv2d(3, 4, 1))),
        Net(nn.Conv2d(4, 4, 1), lambda net, x: net.norm(net.first(net.norm(four(x))))),
        Net(Standardised(3, 4, 1)),
        Net(nn.ConvTranspose2d(4, 4, 2, groups=2), lambda net, x: net.norm(net.first(four(x)))),
    ],
    ids=[
        *('read twice', 'called twice', 'ReLU between', 'ReLU in place between', 'named argument'),
        *('weight norm', 'spectral norm', 'norm called twice', 'subclass', 'grouped'),
    ],
)  # fmt: skip
def test_what_cannot_be_folded_stays(network):
    assert assert_folds(randomise(network), torch.randn(2, 3, 8, 8))[1] == []


@pytest.mark.parametrize(
    'forward',
    [
        lambda net, x: net.norm(y := net.first(x)) + y.detach(),
        lambda net, x: net.norm(net.first(x)) + nn.functional.conv2d(x, net.first.weight),
    ],
    ids=['detached', 'weight'],
)
def test_what_the_dry_run_does_not_show_is_an_error(forward):
    network = randomise(Net(nn.Conv2d(3, 4, 1), forward))
    with pytest.raises(RuntimeError, match='Net: its outputs changed when its batch norms were'):
        fold_batch_norms(network, torch.randn(2, 3, 8, 8))


def test_a_network_in_training_is_refused():
    with pytest.raises(ValueError, match='network.training=True'):
        fold_batch_norms(Net(nn.Conv2d(3, 4, 1)), torch.randn(2, 3, 8, 8))


def test_frozen_weights_stay_frozen():
    network = randomise(Net(nn.Conv2d(3, 4, 1))).requires_grad_(False)
    assert_folds(network, torch.randn(2, 3, 8, 8))
    assert not any(parameter.requires_grad for parameter in network.parameters())
