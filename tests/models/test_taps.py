"""Maps around activations, on the networks of the papers and on awkward ones."""

import copy

import pytest
import torch
from mmcv.cnn import build_activation_layer
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkdfuse.models import Classifier, Loss
from mmkdfuse.models.networks import network_config
from mmkdfuse.models.taps import ActivationTaps, is_activation
from mmkdfuse.models.teachers import Teacher
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import Reads, TapKeys, Taps

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
# Activation and norm of every stage; `+`: the activation takes a sum, of which the norm is a part.
ENDS = {
    'resnet18': [f'layer{k}.1.relu +layer{k}.1.bn2' for k in range(1, 5)],
    'resnet50': [
        f'layer{k}.{n}.relu +layer{k}.{n}.bn3'
        for k, n in zip((1, 2, 3, 4), (2, 3, 5, 2), strict=True)
    ],
    'vgg11': [f'features.{n}.activate features.{n}.bn' for n in (2, 5, 8, 11)],
    'vgg8': [f'features.{n}.activate features.{n}.bn' for n in (2, 4, 6, 8)],
    'vgg11_nobn': [f'features.{n}.activate' for n in (2, 5, 8, 11)],
    # Blocks of one stage each; those of stages 2 and 3 have a shortcut with a norm.
    'resnet8x4': [f'layer{k}.0.relu +layer{k}.0.bn2' for k in range(1, 4)],
    'resnet10': [f'layer{k}.0.relu +layer{k}.0.bn2' for k in range(1, 5)],
    'resnet14x2': [f'layer{k}.1.relu +layer{k}.1.bn2' for k in range(1, 4)],
    'mobilenet_v1': [
        f'layer{k}.{n}.pointwise.2 layer{k}.{n}.pointwise.1'
        for k, n in zip((1, 2, 3, 4), (1, 1, 5, 1), strict=True)
    ],
    'shufflenet_v1': [
        f'layer{k}.{n}.relu +layer{k}.{n}.bn3' for k, n in zip((1, 2, 3), (3, 7, 3), strict=True)
    ],
}
WIDE = ['wrn16_2', 'wrn40_1']
STAGES = [(name, stage) for name, ends in ENDS.items() for stage in range(1, len(ends) + 1)]


def backbone_of(name, seed=0):
    """A narrow network whose maps have both signs and whose norms differ from one another."""
    torch.manual_seed(seed)
    arch = dict(arch=name, base_channels=12 if name == 'shufflenet_v1' else 4)
    network = MODELS.build(network_config(arch)['backbone'])
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return mode(network, False)


def mode(network, training):
    network.train(training)  # of mmpretrain's backbones returns nothing
    return network


def keys_of(*stages, at=('before_activation', 'after_activation')):
    return [f'stage{stage}.{each}' for stage in stages for each in at]


def read(network, keys, images=IMAGES, taps=None):
    """Maps by key and stage maps of one pass."""
    taps = taps or ActivationTaps(network, images.shape[2:])
    taps.record(keys)
    maps = tuple(network(images))
    return taps.take(keys, maps), maps


def outputs_of(network, *names):
    """What modules return in the next pass, by name."""
    found = {}
    for name in names:

        def keep(module, inputs, output, name=name):
            found[name] = output.clone()

        network.get_submodule(name).register_forward_hook(keep)
    return found


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize(('name', 'stage'), STAGES)
def test_the_map_before_becomes_by_the_activation_the_map_after(name, stage, training):
    network = backbone_of(name)
    expected = [each.clone() for each in mode(copy.deepcopy(network), training)(IMAGES)]
    mode(network, training)
    before, after = keys_of(stage)
    found, maps = read(network, [before, after])
    torch.testing.assert_close(list(maps), expected, rtol=0, atol=0)
    assert (found[before] < 0).any() and found[before].grad_fn is not None
    torch.testing.assert_close(found[after], found[before].relu(), rtol=0, atol=0)
    if name == 'vgg11' and stage == 4:  # the stage ends in a pool
        pooled = nn.functional.max_pool2d(found[after], 2)
        torch.testing.assert_close(maps[-1], pooled, rtol=0, atol=0)
        assert found[before].shape[2:] == (2, 2) and maps[-1].shape[2:] == (1, 1)
    else:
        assert found[after] is maps[stage - 1]


@pytest.mark.parametrize(('name', 'stage'), STAGES)
def test_the_norm_is_the_one_before_the_activation(name, stage):
    network = backbone_of(name)
    taps = ActivationTaps(network, 32)
    activation, _, norm = ENDS[name][stage - 1].partition(' ')
    in_sum, norm = norm.startswith('+'), norm.removeprefix('+')
    spot = taps.spot(stage)
    assert (spot.activation, spot.norm, spot.stages_needed) == (activation, norm or None, stage)
    assert taps.norm(stage) is (network.get_submodule(norm) if norm else None)
    if not norm:
        return
    block = network.get_submodule(norm.rpartition('.')[0])
    inputs = []
    block.register_forward_pre_hook(lambda module, given: inputs.append(given[0].clone()))
    outputs = outputs_of(network, norm)
    (before,) = keys_of(stage, at=('before_activation',))
    found, _ = read(network, [before], taps=taps)
    if not in_sum:
        assert torch.equal(found[before], outputs[norm])
        return
    shortcut = getattr(block, 'downsample', None)
    identity = inputs[0] if shortcut is None else shortcut(inputs[0])
    torch.testing.assert_close(found[before], outputs[norm] + identity)
    assert not torch.allclose(found[before], outputs[norm])


def test_some_stages_of_one_block_have_a_shortcut_with_a_norm():
    network = backbone_of('resnet8x4')
    for stage in (2, 3):
        (block,) = network.get_submodule(f'layer{stage}')
        assert isinstance(block.downsample[1], nn.BatchNorm2d)
        assert ActivationTaps(network, 32).norm(stage) is block.bn2


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('name', WIDE)
def test_where_a_stage_ends_in_a_sum_the_next_block_normalises_it(name, training):
    network = mode(backbone_of(name), training)
    taps = ActivationTaps(network, 32)
    final = len(network.layer3) - 2
    norms = ['layer2.0.bn1', 'layer3.0.bn1', f'layer3.{final}']
    assert [taps.spot(stage).norm for stage in (1, 2, 3)] == norms
    assert [taps.norm(stage) for stage in (1, 2, 3)] == list(map(network.get_submodule, norms))
    assert [taps.spot(stage).stages_needed for stage in (1, 2, 3)] == [2, 3, 3]
    outputs = outputs_of(network, *norms)
    keys = keys_of(1, 2, 3)
    found, maps = read(network, keys, taps=taps)
    assert list(found) == keys
    for stage, norm in enumerate(norms, start=1):
        before, after = (found[key] for key in keys_of(stage))
        assert torch.equal(before, outputs[norm]) and (before < 0).any()
        assert torch.equal(after, before.relu())
        assert (after is maps[stage - 1]) == (stage == 3)
        if stage < 3:
            assert before.shape == maps[stage - 1].shape
            assert not torch.allclose(before, maps[stage - 1])
    if not training:
        torch.testing.assert_close(found[keys[0]], network.layer2[0].bn1(maps[0]))


@pytest.mark.parametrize(
    ('name', 'stages'),
    [
        ('mobilenet_v2', (1, 2, 3)),
        ('shufflenet_v2', (1, 2, 3)),
        ('squeezenet', (1, 2, 3, 4)),
    ],
)
def test_a_stage_that_ends_otherwise_is_refused_in_one_sentence(name, stages):
    network = backbone_of(name)
    taps = ActivationTaps(network, 32)
    for stage in stages:
        for use in (taps.spot, taps.norm, lambda s: taps.record(keys_of(s))):
            with pytest.raises(ValueError, match=f'the map of stage {stage} is not made') as error:
                use(stage)
            message = str(error.value)
            assert message.startswith(f'backbone {type(network).__name__}: ')
            assert message.endswith('read `stages` instead.') and '. ' not in message
    model = Classifier(dict(arch=name, base_channels=4), 5, 32)
    assert model.info().stage_shapes  # measured without an error


class Margin(Loss):
    def __init__(self):
        super().__init__()
        self.reads = Reads(student=Taps(before_activation=2))


def test_a_model_names_the_stage_that_a_loss_cannot_read_so():
    arch = dict(arch='shufflenet_v2', base_channels=4)
    with pytest.raises(ValueError, match='ShuffleNetV2_CIFAR: the map of stage 2 is not made'):
        Classifier(arch, 5, 32, losses=[Margin()])


def test_a_stage_that_ends_in_a_norm_is_its_own_map_before_and_after():
    """MobileNetV2's last stage: nothing follows its batch norm."""
    network = backbone_of('mobilenet_v2')
    taps = ActivationTaps(network, 32)
    assert (taps.spot(4).activation, taps.norm(4)) == (None, None)
    found, maps = read(network, keys_of(4), taps=taps)
    assert all(each is maps[3] for each in found.values()) and (maps[3] < 0).any()


@pytest.mark.parametrize('name', [*ENDS, *WIDE])
def test_shapes_are_those_of_the_maps(name):
    network = backbone_of(name)
    taps = ActivationTaps(network, 32)
    keys = keys_of(*range(1, len(taps.spots) + 1))
    assert set(taps.shapes) == set(keys)
    found, _ = read(network, keys, taps=taps)
    assert {key: tuple(each.shape[1:]) for key, each in found.items()} == taps.shapes
    wider, _ = read(network, keys, torch.zeros(1, 3, 32, 64), taps=taps)
    for key, each in wider.items():
        channels, height, width = taps.shapes[key]
        assert each.shape == (1, channels, height, 2 * width)


@pytest.mark.parametrize('name', ['resnet18', 'wrn16_2', 'vgg11', 'mobilenet_v1'])
def test_the_dry_run_leaves_no_trace(name):
    network = mode(backbone_of(name), True)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    modules = list(network.modules())
    ActivationTaps(network, 32)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in state.items())
    assert all(p.grad is None for p in network.parameters())
    assert all(not (m._forward_hooks or m._forward_pre_hooks) for m in modules)
    assert all(module.training for module in modules)
    assert all(module.inplace for module in modules if isinstance(module, nn.ReLU))


@pytest.mark.parametrize(('name', 'stage'), [('resnet18', 2), ('vgg11', 4), ('wrn16_2', 1)])
def test_the_activation_in_place_does_not_overwrite_the_map(name, stage):
    network = backbone_of(name)
    (key,) = keys_of(stage, at=('before_activation',))
    expected, _ = read(copy.deepcopy(network), [key])
    found, _ = read(network, [key])
    network(-IMAGES)  # another pass does not change what was taken
    assert (found[key] < 0).any() and torch.equal(found[key], expected[key])
    taps = ActivationTaps(network, 32)
    activation = network.get_submodule(taps.spot(stage).activation)
    assert isinstance(activation, nn.ReLU) and not activation.inplace
    others = [m for m in network.modules() if isinstance(m, nn.ReLU) and m is not activation]
    assert all(module.inplace for module in others)  # as before


@pytest.mark.parametrize(
    ('name', 'stage', 'deeper'),
    [('resnet18', 2, 'layer3'), ('vgg11', 4, 'features.13'), ('wrn16_2', 1, 'layer2.0.conv1')],
)
@pytest.mark.parametrize('at', ['before_activation', 'after_activation'])
def test_gradients_flow_through_the_map(name, stage, deeper, at):
    network = mode(backbone_of(name), True)
    (key,) = keys_of(stage, at=(at,))
    found, _ = read(network, [key])
    found[key].square().sum().backward()
    norm = ActivationTaps(network, 32).spot(stage).norm
    reached = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert all(gradient.isfinite().all() for gradient in reached.values())
    assert reached[f'{norm}.weight'].any() and reached[next(iter(reached))].any()
    assert next(iter(reached)) == next(iter(dict(network.named_parameters())))
    assert not any(name.startswith(deeper) for name in reached)
    # In the direction of one parameter as by finite differences.
    network = backbone_of(name).double()
    taps = ActivationTaps(network, 32)
    images = IMAGES[:1].double()

    def loss():
        return read(network, [key], images, taps)[0][key].square().sum()

    parameter = taps.norm(stage).bias
    (gradient,) = torch.autograd.grad(loss(), [parameter])
    with torch.no_grad():
        parameter[0] += 1e-6
        up = loss()
        parameter[0] -= 2e-6
        down = loss()
    assert gradient[0].item() == pytest.approx(((up - down) / 2e-6).item(), rel=1e-4, abs=1e-6)


def test_with_and_without_recording_the_network_learns_the_same():
    plain, read_of = (mode(backbone_of('resnet8x4'), True) for _ in range(2))
    found, maps = read(read_of, keys_of(1, 2, 3))
    maps[-1].square().sum().backward()
    plain(IMAGES)[-1].square().sum().backward()
    for one, other in zip(plain.parameters(), read_of.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize('ran', [False, True])
def test_a_copy_of_a_network_keeps_its_own_maps(ran):
    network = backbone_of('resnet8x4')
    taps = ActivationTaps(network, 32)
    keys = keys_of(1, 3)
    taps.record(keys)
    if ran:  # and what it kept of that pass was not taken
        network(IMAGES)
    twin, twins_taps = copy.deepcopy((network, taps))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.5)
    maps, twins_maps = network(IMAGES), twin(2 * IMAGES)
    assert not taps._kept.keys() & {'x'} and taps._kept is not twins_taps._kept
    found, twins = taps.take(keys, maps), twins_taps.take(keys, twins_maps)
    expected, _ = read(backbone_of('resnet8x4'), keys)
    for key in keys:
        assert torch.equal(found[key], expected[key]) and not torch.allclose(found[key], twins[key])
        assert torch.equal(twins[key].relu() if 'before' in key else twins[key], twins[key].relu())
    assert twins['stage3.after_activation'] is twins_maps[-1]
    assert not taps._kept and not twins_taps._kept


def test_a_copy_of_a_model_records_into_the_copy_only():
    model = Classifier(dict(arch='resnet8x4', base_channels=4), 5, 32).eval()
    taps = Taps(before_activation=(1, -1), logits='main').resolved(3, ('main',), 'test')
    model.listen(taps)
    expected = model.run(IMAGES, taps)
    model(IMAGES)  # nobody takes these
    twin = copy.deepcopy(model)
    assert twin.activations is not model.activations
    assert twin.activations.backbone is twin.backbone
    with torch.no_grad():
        twin.backbone.layer1[0].bn2.bias.add_(1)
    first, second = model.run(IMAGES, taps), twin.run(IMAGES, taps)
    for stage in (1, 3):
        assert torch.equal(first.before_activation(stage), expected.before_activation(stage))
    difference = second.before_activation(1) - first.before_activation(1)
    torch.testing.assert_close(difference, torch.ones_like(difference))
    assert not torch.equal(second.before_activation(3), first.before_activation(3))
    assert not torch.equal(second.logits, first.logits)


def test_only_what_was_named_is_kept_and_everything_is_let_go_of():
    network = backbone_of('resnet18')
    taps = ActivationTaps(network, 32)
    keys = ['stage2.before_activation', 'stage2', 'aligned1']
    taps.record(keys)
    taps.record(keys)  # again: no second hook
    hooks = [len(module._forward_pre_hooks) for module in network.modules()]
    assert sum(hooks) == 1
    maps = network(IMAGES)
    assert list(taps._kept) == ['stage2.before_activation']
    assert list(taps.take(keys, maps)) == ['stage2.before_activation']
    assert not taps._kept


class Residual(nn.Module):
    """A block that adds its shortcut first, or whose last convolution has no norm."""

    def __init__(self, channels, stride, first='shortcut', norm=True, act=nn.ReLU):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 2 * channels, 3, stride, 1)
        self.norm1 = nn.BatchNorm2d(2 * channels)
        self.conv2 = nn.Conv2d(2 * channels, 2 * channels, 3, 1, 1)
        self.norm2 = nn.BatchNorm2d(2 * channels) if norm else nn.Identity()
        self.shortcut = nn.Conv2d(channels, 2 * channels, 1, stride)
        self.shortcut_norm = nn.BatchNorm2d(2 * channels)
        self.first, self.act = first, act()

    def forward(self, x):
        path = [
            lambda: self.shortcut_norm(self.shortcut(x)),
            lambda: self.norm2(self.conv2(self.norm1(self.conv1(x)).relu())),
        ]
        one, other = (part() for part in (path if self.first == 'shortcut' else path[::-1]))
        return self.act(one + other)


class Blocks(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.block1 = Residual(3, 2, **options)
        self.block2 = Residual(6, 2, **options)

    def forward(self, x):
        first = self.block1(x)
        return first, self.block2(first)


@pytest.mark.parametrize('first', ['shortcut', 'path'])
@pytest.mark.parametrize('act', [nn.ReLU, nn.SiLU, nn.GELU, nn.LeakyReLU, nn.Hardswish])
def test_of_a_sum_the_norm_is_that_of_the_block_whichever_comes_first(first, act):
    network = Blocks(first=first, act=act).eval()
    taps = ActivationTaps(network, 16)
    assert [taps.spot(stage).norm for stage in (1, 2)] == ['block1.norm2', 'block2.norm2']
    found, maps = read(network, keys_of(1, 2), taps=taps)
    for stage in (1, 2):
        before, after = (found[key] for key in keys_of(stage))
        torch.testing.assert_close(act()(before), after)
        assert after is maps[stage - 1]


@pytest.mark.parametrize('first', ['shortcut', 'path'])
def test_where_the_block_has_no_norm_that_of_the_shortcut_is_not_taken(first):
    taps = ActivationTaps(Blocks(first=first, norm=False).eval(), 16)
    assert [taps.norm(stage) for stage in (1, 2)] == [None, None]
    assert taps.spot(1).activation == 'block1.act'


class SharedActivation(nn.Module):
    """One activation module for all stages, or none that is a module."""

    def __init__(self, functional=False):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 3, 2)
        self.relu = torch.relu if functional else nn.ReLU(inplace=True)

    def forward(self, x):
        first = self.relu(self.conv1(x))
        return first, self.relu(self.conv2(first))


def test_an_activation_that_is_called_again_later_cannot_be_read():
    taps = ActivationTaps(SharedActivation(), 16)
    with pytest.raises(ValueError, match='SharedActivation: the map of stage 1 is not made by an'):
        taps.spot(1)
    network = SharedActivation()
    found, maps = read(network, keys_of(2), torch.randn(1, 3, 16, 16))
    assert torch.equal(found[keys_of(2)[0]].relu(), maps[1])


def test_a_function_is_no_module():
    taps = ActivationTaps(SharedActivation(functional=True), 16)
    for stage in (1, 2):
        with pytest.raises(ValueError, match='an activation module, so that there is no map'):
            taps.record(keys_of(stage))


@pytest.mark.parametrize(
    ('module', 'expected'),
    [
        (nn.ReLU(), True),
        (nn.ReLU6(), True),
        (nn.PReLU(), True),
        (nn.Sigmoid(), True),
        (nn.Hardswish(), True),
        (nn.Softmax(dim=1), False),
        (nn.MultiheadAttention(4, 2), False),
        (nn.BatchNorm2d(3), False),
        (nn.Conv2d(3, 3, 1), False),
        (nn.Sequential(nn.ReLU()), False),
        (nn.Identity(), False),
    ],
)
def test_activations_are_told_from_other_modules(module, expected):
    assert is_activation(module) is expected


@pytest.mark.filterwarnings('ignore:In MMCV')  # of HSigmoid about its defaults
@pytest.mark.parametrize('act', ['HSwish', 'Swish', 'HSigmoid', 'Clamp', 'GELU'])
def test_activations_of_mmcv_are_known(act):
    assert is_activation(build_activation_layer(dict(type=act)))


@pytest.mark.parametrize(
    ('name', 'stages'), [('resnet8x4', 1), ('resnet18', 1), ('wrn16_2', 2), ('vgg11', 1)]
)
@pytest.mark.parametrize('sped_up', [False, True])
def test_a_teacher_that_is_read_so_at_its_first_stage_runs_no_more_than_it_needs(
    name, stages, sped_up
):
    torch.manual_seed(0)
    teacher = Teacher(dict(arch=name, base_channels=4), 5, 32)
    whole = copy.deepcopy(teacher.network.backbone)
    keys = keys_of(1)
    expected, maps = read(whole, keys)
    teacher.listen(TapKeys(maps=(*keys, 'stage1')))
    if sped_up:  # maps around activations come of the network as it is
        teacher.speed_up()
    calls = []
    for module in teacher.backbone.modules():
        module.register_forward_hook(lambda module, *_: calls.append(type(module).__name__))
    later = []
    for module in teacher.network.modules():
        module.register_forward_hook(lambda *_: later.append(1))
    output = teacher(IMAGES)
    assert set(output.maps) == {*keys, 'stage1'}
    torch.testing.assert_close(output.before_activation(1), expected[keys[0]], rtol=0, atol=0)
    torch.testing.assert_close(output.after_activation(1), expected[keys[1]], rtol=0, atol=0)
    torch.testing.assert_close(output.stage(1), maps[0], rtol=0, atol=0)
    assert (output.before_activation(1) < 0).any()
    assert not any(each.requires_grad for each in output.maps.values())
    assert calls and not later
    convolutions = sum(name.endswith('Conv2d') for name in calls)
    short = ActivationTaps(whole, 32).spot(1).stages_needed
    assert short == stages
    total = sum(isinstance(module, nn.Conv2d) for module in whole.modules())
    assert 0 < convolutions < total
    again = teacher(-IMAGES)
    assert not torch.equal(again.before_activation(1), output.before_activation(1))


def test_weights_loaded_after_the_cut_are_those_that_a_truncated_teacher_runs_with(tmp_path):
    torch.manual_seed(1)
    trained = Classifier(dict(arch='resnet8x4', base_channels=4), 5, 32).eval()
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=trained.state_dict()), path)
    torch.manual_seed(2)
    spec = dict(arch='resnet8x4', base_channels=4, checkpoint=str(path))
    teacher = Teacher(spec, 5, 32)
    keys = keys_of(1, 2)
    teacher.listen(TapKeys(maps=tuple(keys)))
    before = teacher(IMAGES).before_activation(1)
    teacher.load()
    expected, _ = read(trained.backbone, keys)
    output = teacher(IMAGES)
    assert not torch.allclose(before, output.before_activation(1))
    for key in keys:
        torch.testing.assert_close(output.map(key), expected[key], rtol=0, atol=0)
    assert teacher.double()(IMAGES.double()).before_activation(2).dtype == torch.float64


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_a_teacher_hands_such_maps_on_in_the_layout_of_the_images(layout):
    teacher = Teacher(dict(arch='wrn16_2', base_channels=4), 5, 32)
    teacher.listen(Taps(before_activation='all', after_activation=1).resolved(3, ('main',), 'test'))
    output = teacher(IMAGES.to(memory_format=layout))
    assert len(output.maps) == 4
    assert all(each.is_contiguous(memory_format=layout) for each in output.maps.values())
