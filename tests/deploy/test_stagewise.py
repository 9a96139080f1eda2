"""Backbones of every kind go on from where they stopped, without computing anything twice."""

import pytest
import torch
from torch import nn

from mmkdfuse.deploy.stagewise import StagewiseBackbone
from mmkdfuse.models.networks import network_config
from mmkdfuse.registry import MODELS

SIZE = 32
ALL = (0, 1, 2, 3)
VAN = dict(embed_dims=[4, 8, 8, 12], depths=[1, 1, 1, 1], ffn_ratios=[2, 2, 2, 2])
BACKBONES = {
    'ResNet_CIFAR': dict(arch='resnet18', base_channels=4, stem_channels=4),
    'VGG, whose layers are one list': dict(arch='vgg11', base_channels=4),
    'MobileNetV1': dict(arch='mobilenet_v1', base_channels=4),
    'Swin, with norm layers for every output': dict(
        type='mmpretrain.SwinTransformer',
        arch=dict(embed_dims=4, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]),
        img_size=SIZE,
        pad_small_map=True,
        out_indices=ALL,
    ),
    'VAN, whose embeddings return a size': dict(type='mmpretrain.VAN', arch=VAN, out_indices=ALL),
    'timm, wrapped': dict(
        type='mmpretrain.TIMMBackbone', model_name='resnet10t', features_only=True
    ),
}


class TwoStages(nn.Module):
    """Two convolutions and what may lie between them."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, 2)
        self.second = nn.Conv2d(4, 4, 3, 2)

    def between(self, x):
        return x

    def forward(self, x):
        first = self.between(self.first(x))
        return first, self.second(first)


class ChangesItsMaps(TwoStages):
    def between(self, x):
        return x.mul_(2)


class MixesImages(TwoStages):
    def forward(self, x):
        first, second = super().forward(x)
        return first, second - second.mean(dim=0, keepdim=True)


class Transposed(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).transpose(0, 1)


class ImagesComeSecond(TwoStages):
    """Calls a module that returns maps with the images on the second axis."""

    def __init__(self):
        super().__init__()
        self.first = Transposed(3, 4, 3, 2)

    def between(self, x):
        return x.transpose(0, 1)


def build(backbone):
    torch.manual_seed(0)
    network = MODELS.build(network_config(backbone)['backbone'])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    network.eval()
    return network


def images_of(count, size=SIZE):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize('backbone', BACKBONES.values(), ids=list(BACKBONES))
def test_maps_of_the_remaining_images_are_those_of_the_plain_forward(backbone):
    network = build(backbone)
    images = images_of(5)
    expected = network(images)
    before = [vars(module).copy() for module in network.modules()]
    stages = StagewiseBackbone(network, SIZE, len(expected))
    assert stages.stagewise
    run, rows = stages.start(images), torch.arange(5)
    for number in range(1, len(expected) + 1):
        found = run.maps(number)
        assert len(found) == len(run.known) == number
        for a, b in zip(found, expected, strict=False):
            torch.testing.assert_close(a, b[rows], rtol=0, atol=1e-5 * float(b.abs().max()))
        if number == 2:  # also without the first image, and not in order
            keep = torch.tensor([3, 1, 4])
            run.keep(keep)
            rows = rows[keep]
    # The backbone is as before: same attributes, same objects.
    for module, attributes in zip(network.modules(), before, strict=True):
        assert vars(module).keys() == attributes.keys()
        assert all(vars(module)[name] is value for name, value in attributes.items())


@torch.no_grad()
def test_every_layer_runs_once_and_only_for_the_images_that_stay():
    network = build(BACKBONES['ResNet_CIFAR'])
    stages = StagewiseBackbone(network, SIZE, 4)
    convolutions = {n: m for n, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    batches = {name: [] for name in convolutions}
    # conv1 is itself called by the backbone: its hooks would see replays, too.
    weights = {network.get_parameter(f'{name}.weight'): name for name in convolutions}
    convolve = nn.functional.conv2d

    def counted(x, weight, *args, **kwargs):
        batches[weights[weight]].append(len(x))
        return convolve(x, weight, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, 'conv2d', counted)
        run = stages.start(images_of(6))
        for number, staying in ((1, 5), (2, 5), (3, 2), (4, 2)):
            run.maps(number)
            run.maps(1)  # known
            run.keep(torch.arange(staying))
    expected = {'conv1': 6, 'layer1': 6, 'layer2': 5, 'layer3': 5, 'layer4': 2}
    assert batches == {name: [expected[name.split('.')[0]]] for name in convolutions}


@torch.no_grad()
def test_stages_may_be_left_out_and_images_of_other_sizes_fed():
    network = build(BACKBONES['ResNet_CIFAR'])
    stages = StagewiseBackbone(network, SIZE, 4)
    images = images_of(2, 48)
    for number in (3, 4):
        for a, b in zip(stages.start(images).maps(number), network(images), strict=False):
            assert torch.equal(a, b)


@torch.no_grad()
@pytest.mark.parametrize('kind', [ChangesItsMaps, MixesImages, ImagesComeSecond])
def test_where_it_does_not_work_all_stages_run_at_once(kind):
    torch.manual_seed(0)
    network = kind().eval()
    stages = StagewiseBackbone(network, SIZE, 2)
    assert not stages.stagewise
    images = images_of(4)
    expected = network(images)
    run = stages.start(images)
    assert torch.equal(run.maps(1)[0], expected[0])
    assert len(run.maps(1)) == 1 and len(run.known) == 2
    run.keep(torch.tensor([2, 0]))
    assert torch.equal(run.maps(2)[1], expected[1][[2, 0]])


@pytest.mark.parametrize('mode', [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_same_without_what_prevents_it(mode):
    network = TwoStages().eval()
    with mode():
        assert StagewiseBackbone(network, SIZE, 2).stagewise


@torch.no_grad()
def test_an_error_leaves_the_backbone_as_it_was():
    network = build(BACKBONES['ResNet_CIFAR'])
    stages = StagewiseBackbone(network, SIZE, 4)
    with pytest.raises(RuntimeError):
        stages.start(torch.zeros(1, 5, SIZE, SIZE)).maps(2)
    assert network.out_indices == ALL
    assert not any('forward' in vars(module) for module in network.modules())
