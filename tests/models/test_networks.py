"""Networks by name."""

import pytest
import torch
from torch import nn

from mmkdfuse.analysis.cost import count_cost
from mmkdfuse.models import KFMSD, Classifier
from mmkdfuse.models.heads.branch_head import build_main_head
from mmkdfuse.models.networks import network_config, network_names
from mmkdfuse.models.probe import probe_stages

# Parameters at 10, 100 and 200 classes, million MACs at 32x32 and 64x64 (100 classes), and the
# channels and side lengths of the stages at 32x32, all measured on the reference codes.
RESNET_SIDES = (32, 16, 8, 4)
BASIC, BOTTLENECK = (64, 128, 256, 512), (256, 512, 1024, 2048)
VGG_STAGES = (128, 256, 512, 512), (16, 8, 4, 1)
REFERENCE = {
    'resnet18': ((11173962, 11220132, 11271432), (555.5, 2221.7), BASIC, RESNET_SIDES),
    'resnet34': ((21282122, 21328292, 21379592), (1159.4, 4637.6), BASIC, RESNET_SIDES),
    'resnet50': ((23520842, 23705252, 23910152), (1298.0, 5191.4), BOTTLENECK, RESNET_SIDES),
    'wrn50_2': ((66847050, 67031460, 67236360), (3684.6, 14737.7), BOTTLENECK, RESNET_SIDES),
    'resnext50_32x4d': ((22992714, 23177124, 23382024), (1344.2, 5376.0), BOTTLENECK, RESNET_SIDES),
    'vgg11': ((28149514, 28518244, 28927944), (172.0, 630.3), *VGG_STAGES),
    'vgg16': ((33646666, 34015396, 34425096), (332.5, 1272.1), *VGG_STAGES),
    'vgg19': ((38958922, 39327652, 39737352), (417.4, 1611.8), *VGG_STAGES),
    'squeezenet': ((734986, 781156, 832456), (53.3, 213.1), (128, 256, 512, 512), (16, 8, 4, 4)),
    'mobilenet_v1': (
        (3223178, 3315428, 3417928),
        (46.4, 185.5),
        (128, 256, 512, 1024),
        (16, 8, 4, 2),
    ),
}


@pytest.fixture(scope='module', params=network_names())
def full(request):
    """Name and model of the published width; one is alive at a time, some are large."""
    return request.param, Classifier(request.param, num_classes=100, image_size=32)


@pytest.fixture(params=network_names())
def narrow(request):
    """Name and config of a network shrunk by one keyword."""
    return request.param, dict(arch=request.param, base_channels=4)


def parameters_of(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_names_are_sorted_and_known():
    names = network_names()
    assert names == sorted(names) and set(REFERENCE) <= set(names)


def test_every_network_yields_maps_that_get_no_larger(full):
    _, model = full
    shapes = model.stage_shapes
    assert len(shapes) >= 2
    assert shapes == sorted(shapes, key=lambda shape: (-shape[1], shape[0]))
    assert not model._unreached


@pytest.mark.parametrize('full', REFERENCE, indirect=True)
def test_stages_are_those_of_the_reference(full):
    name, model = full
    _, _, channels, sides = REFERENCE[name]
    for scale in (1, 2):
        expected = [(c, scale * s, scale * s) for c, s in zip(channels, sides, strict=True)]
        assert probe_stages(model.backbone, 32 * scale) == expected
    assert model.stage_shapes == [(c, s, s) for c, s in zip(channels, sides, strict=True)]


@pytest.mark.parametrize('full', REFERENCE, indirect=True)
def test_cost_is_that_of_the_reference(full):
    name, model = full
    parameters, macs, channels, sides = REFERENCE[name]
    for num_classes, expected in zip((10, 100, 200), parameters, strict=True):
        with torch.device('meta'):
            head = build_main_head(network_config(name).get('head'), num_classes, channels[-1])
        assert parameters_of(model.backbone) + parameters_of(head) == expected
    assert parameters_of(model) == parameters[1]
    for scale, expected in zip((1, 2), macs, strict=True):
        if name == 'squeezenet':
            # The reference classifies every position of the map and then takes the mean.
            expected -= 100 * 512 * ((scale * sides[-1]) ** 2 - 1) / 1e6
        found = count_cost(model, (3, 32 * scale, 32 * scale)).macs / 1e6
        assert abs(found - expected) < 0.06


@pytest.mark.parametrize('name', REFERENCE)
def test_one_keyword_shrinks_every_network(name):
    parameters, _, channels, _ = REFERENCE[name]
    small = Classifier(dict(arch=name, base_channels=4), num_classes=3, image_size=32)
    assert parameters_of(small.backbone) < parameters[0] / 10
    assert small.stage_shapes[-1][0] <= channels[-1] / 4


def test_every_parameter_of_every_network_gets_a_gradient(narrow):
    torch.manual_seed(0)
    model = Classifier(narrow[1], num_classes=3, image_size=32)
    model.init_weights()
    terms = model(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 1]), mode='loss')
    sum(terms.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any() or _before_batch_norm(model, name), name


def _before_batch_norm(model, name):
    """Whether a parameter is a bias whose effect batch norm takes away."""
    layer = model.get_submodule(name.rpartition('.')[0])
    return name.endswith('.bias') and isinstance(layer, nn.Conv2d)


def test_weights_go_from_one_model_to_another(narrow):
    images = torch.randn(2, 3, 32, 32)
    one, other = (Classifier(narrow[1], num_classes=3, image_size=32) for _ in range(2))
    one(images)  # moves the batch-norm statistics in training mode
    other.load_state_dict(one.state_dict(), strict=True)
    one.eval(), other.eval()
    with torch.no_grad():
        assert torch.equal(one(images), other(images))
        assert torch.equal(one.deployed()(images, mode='tensor'), one(images))


def test_images_of_other_sizes_pass(narrow):
    model = Classifier(narrow[1], num_classes=3, image_size=32)
    model.eval()
    assert model(torch.randn(1, 3, 64, 48)).shape == (1, 3)


@pytest.mark.filterwarnings('error:KFMNeck')  # no map that is fused is of size 1x1
def test_every_network_distils_itself(narrow):
    model = KFMSD(backbone=narrow[1], num_classes=3, image_size=32)
    model.eval()
    assert [logits.shape for logits in model(torch.randn(2, 3, 32, 32))] == [(2, 3)] * 4


@pytest.mark.parametrize('name', ['resnet34', 'wrn50_2', 'resnext50_32x4d'])
def test_resnets_start_with_the_initialisation_of_the_reference(name):
    """Kaiming fan-out, and no batch norm of scale zero at the end of a block."""
    torch.manual_seed(0)
    model = Classifier(dict(arch=name, base_channels=32), num_classes=3, image_size=32)
    model.init_weights()
    for layer in model.backbone.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all() and (layer.bias == 0).all()
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 20000:
            fan_out = layer.weight[:, 0].numel()
            expected = (2 / fan_out) ** 0.5
            assert abs(layer.weight.std() / expected - 1) < 0.05


@pytest.mark.parametrize('name', ['vgg11', 'squeezenet', 'mobilenet_v1'])
def test_the_others_start_with_the_initialisation_of_torch(name):
    """Uniform within 1 / sqrt(fan-in), weights and biases, also after ``init_weights``."""
    torch.manual_seed(0)
    model = Classifier(dict(arch=name, base_channels=16), num_classes=3, image_size=32)
    model.init_weights()
    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert len(layers) > 8
    for layer in layers:
        bound = layer.weight[0].numel() ** -0.5
        assert layer.weight.abs().max() <= bound
        if layer.weight.numel() > 5000:
            assert abs(layer.weight.std() / (bound / 3**0.5) - 1) < 0.05
        if layer.bias is not None:
            assert 0 < layer.bias.abs().max() <= bound


def test_the_classifier_of_a_vgg_has_two_hidden_layers():
    head = Classifier(dict(arch='vgg11', base_channels=4), num_classes=7, image_size=32).head
    layers = [layer for layer in head.modules() if isinstance(layer, (nn.Linear, nn.Dropout))]
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == [0.5, 0.5]
    shapes = [tuple(layer.weight.shape) for layer in layers if isinstance(layer, nn.Linear)]
    assert shapes == [(4096, 32), (4096, 4096), (7, 4096)]


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
