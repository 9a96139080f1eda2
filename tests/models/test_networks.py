"""Networks by name."""

import pytest
import torch
from reading import output_of
from reference_costs import KFMSD as KFMSD_NETWORKS
from reference_costs import REFERENCE
from torch import nn

from mmkdfuse.analysis.cost import count_cost
from mmkdfuse.models import KFMSD, Classifier
from mmkdfuse.models.networks import network_config, network_names
from mmkdfuse.models.probe import probe_stages
from mmkdfuse.registry import MODELS

# Smallest widths that groups and halves allow, where 4 is not.
NARROW = {'shufflenet_v1': 12}
SHUFFLE_NETS = {'shufflenet_v1': 24, 'shufflenet_v2': 116}


@pytest.fixture(scope='module', params=network_names())
def full(request):
    """Name and model of the published width; one is alive at a time, some are large."""
    reference = REFERENCE[request.param]
    classes = next(iter(reference.parameters))
    return request.param, Classifier(request.param, classes, image_size=reference.size)


@pytest.fixture(params=network_names())
def narrow(request):
    """Name and config of a network shrunk by one keyword."""
    return request.param, dict(arch=request.param, base_channels=NARROW.get(request.param, 4))


def parameters_of(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_names_are_sorted_and_every_network_has_a_reference():
    names = network_names()
    assert names == sorted(names) and set(names) == set(REFERENCE)


def test_stages_are_those_of_the_reference(full):
    name, model = full
    _, _, channels, sides, size = REFERENCE[name]
    assert model.stage_shapes == [(c, s, s) for c, s in zip(channels, sides, strict=True)]
    assert not model.body.unreached
    if name in KFMSD_NETWORKS:
        expected = [(c, 2 * s, 2 * s) for c, s in zip(channels, sides, strict=True)]
        assert probe_stages(model.backbone, 2 * size) == expected


def test_cost_is_that_of_the_reference(full):
    name, model = full
    reference = REFERENCE[name]
    classifier = [layer for layer in model.head.modules() if isinstance(layer, nn.Linear)][-1]
    per_class = classifier.in_features + 1
    for num_classes, expected in reference.parameters.items():
        others = num_classes - model.num_classes
        assert parameters_of(model) + others * per_class == expected
    for size, expected in reference.macs.items():
        if name == 'squeezenet':
            # The reference classifies every position of the map and then takes the mean.
            expected -= 100 * 512 * ((size // 32 * reference.sides[-1]) ** 2 - 1) / 1e6
        found = count_cost(model, (3, size, size)).macs / 1e6
        assert abs(found - expected) < (0.06 if name in KFMSD_NETWORKS else 0.006)


def test_one_keyword_shrinks_every_network(narrow):
    name, backbone = narrow
    _, _, channels, _, size = REFERENCE[name]
    small = Classifier(backbone, num_classes=3, image_size=size)
    width, share = (2, 3) if name in NARROW else (4, 10)
    assert parameters_of(small.backbone) < max(REFERENCE[name].parameters.values()) / share
    assert small.stage_shapes[-1][0] <= channels[-1] / width


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
    heads = model(torch.randn(2, 3, 32, 32))
    assert [logits.shape for logits in heads] == [(2, 3)] * len(REFERENCE[narrow[0]].channels)


@pytest.mark.parametrize(
    'name, base_channels',
    [
        *(('resnet34', 32), ('wrn50_2', 32), ('resnext50_32x4d', 32), ('resnet10', 32)),
        *(('resnet8x4', 64), ('wrn16_2', 32), ('vgg8', 64), ('mobilenet_v2_x2', 32)),
    ],
)
def test_some_start_with_kaiming_fan_out(name, base_channels):
    """Normal, no bias, and no batch norm of scale zero at the end of a block."""
    torch.manual_seed(0)
    backbone = dict(arch=name, base_channels=base_channels)
    model = Classifier(backbone, num_classes=3, image_size=32)
    model.init_weights()
    checked = 0
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all() and (layer.bias == 0).all()
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is None or not layer.bias.any()
            if layer.weight.numel() > 5000:
                fan_out = layer.weight[:, 0].numel()
                expected = (2 / fan_out) ** 0.5
                assert abs(layer.weight.std() / expected - 1) < 0.05
                assert layer.weight.abs().max() > 2.5 * expected  # not uniform
                checked += 1
    assert checked > 3


@pytest.mark.parametrize('name', ['vgg11', 'squeezenet', 'mobilenet_v1', *sorted(SHUFFLE_NETS)])
def test_the_others_start_with_the_initialisation_of_torch(name):
    """Uniform within 1 / sqrt(fan-in), weights and biases, also after ``init_weights``."""
    torch.manual_seed(0)
    backbone = dict(arch=name, base_channels=SHUFFLE_NETS.get(name, 16))
    model = Classifier(backbone, num_classes=3, image_size=32)
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


@pytest.mark.parametrize('name', ['vgg8', 'mobilenet_v2'])
def test_some_classifiers_start_small(name):
    torch.manual_seed(0)
    model = Classifier(dict(arch=name, base_channels=16), num_classes=50, image_size=32)
    model.init_weights()
    assert abs(model.head.fc.weight.std() / 0.01 - 1) < 0.05 and not model.head.fc.bias.any()


def test_the_classifier_of_a_wrn_starts_without_bias():
    torch.manual_seed(0)
    model = Classifier('wrn16_2', num_classes=50, image_size=32)
    model.init_weights()
    weight, bound = model.head.fc.weight, 128**-0.5
    assert weight.abs().max() <= bound and not model.head.fc.bias.any()
    assert abs(weight.std() / (bound / 3**0.5) - 1) < 0.05


@pytest.mark.parametrize(
    'name, tap, features', [('shufflenet_v2', 16, 1024), ('mobilenet_v2', 40, 1280)]
)
def test_the_last_convolution_is_of_the_complete_network_only(name, tap, features):
    arch = dict(arch=name, base_channels=4)
    images = torch.randn(2, 3, 32, 32)
    model = Classifier(arch, num_classes=3, image_size=32).eval()
    output = output_of(model, images)
    assert output.stage(-1).shape[1] == model.stage_shapes[-1][0] == tap
    assert output.feature.shape == (2, features) == (2, model.head.fc.in_features)
    widened = torch.relu(model.neck.bn(model.neck.conv(output.stage(-1))))
    torch.testing.assert_close(output.feature, widened.mean((2, 3)))
    backbone = MODELS.build(network_config(arch)['backbone'])
    backbone.eval()
    backbone.load_state_dict(model.backbone.state_dict(), strict=True)
    assert torch.equal(backbone(images)[-1], output.stage(-1))
    assert torch.equal(model.deployed()(images), output.logits)
    # Branches have the channels of the last stage, and so has the main classifier beside them.
    distilled = KFMSD(arch, num_classes=3, image_size=32).eval()
    assert distilled.head.main.fc.in_features == tap
    assert torch.equal(distilled.deployed()(images), distilled(images)[-1])


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


@pytest.mark.parametrize('backbone', ['resnet_18', dict(arch='ResNet18')])
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
