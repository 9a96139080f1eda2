"""Published weights give, after conversion, the logits that the published network gives."""

import functools
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from reading import output_of as read
from reference_costs import REFERENCE
from reference_networks import FOLDER, random_state, reference_output

from mmkdfuse.checkpoint import load_file
from mmkdfuse.models import Classifier
from mmkdfuse.models.networks import network_names
from mmkdfuse.models.reference_weights import convert_file, convert_reference, reference_layouts
from mmkdfuse.models.teachers.teacher import Teacher
from mmkdfuse.registry import MODELS

TEACHERS = Path(__file__).resolve().parents[2] / 'configs' / 'teacher'
# Published files by the network that takes their weights.
FILES = {
    'resnet18': ('s_resnet18', 'w_resnet18'),
    'resnet34': ('s_resnet34', 'w_resnet34'),
    'resnet50': ('s_resnet50', 'w_resnet50'),
    'wrn50_2': ('s_wide_resnet50_2',),
    'resnext50_32x4d': ('s_resnext50_32x4d', 'w_resnext50'),
    'vgg11': ('w_vgg11_bn',),
    'vgg16': ('w_vgg16_bn',),
    'vgg19': ('w_vgg19_bn',),
    'squeezenet': ('w_squeezenet',),
    'mobilenet_v1': ('w_mobilenet',),
    'wrn40_1': ('r_wrn_40_1',),
    'wrn40_2': ('r_wrn_40_2',),
    'wrn16_2': ('r_wrn_16_2',),
    'resnet8x4': ('r_resnet8x4',),
    'resnet32x4': ('r_resnet32x4',),
    'resnet110': ('r_resnet110',),
    'resnet116': ('r_resnet116',),
    'resnet110x2': ('r_resnet110x2',),
    'resnet14x2': ('r_resnet14x2',),
    'resnet38': ('r_resnet38',),
    'resnet38x2': ('r_resnet38x2',),
    'vgg8': ('r_vgg8',),
    'shufflenet_v1': ('r_ShuffleV1',),
    'shufflenet_v2': ('r_ShuffleV2',),
    'shufflenet_v2_x1_5': ('r_ShuffleV2_1_5',),
    'mobilenet_v2': ('r_MobileNetV2',),
    'mobilenet_v2_x2': ('r_MobileNetV2_1_0',),
    'vgg11_nobn': ('r_vgg11',),
    'vgg16_nobn': ('r_vgg16',),
    'vgg19_nobn': ('r_vgg19',),
    'vgg11_bn': ('r_vgg11_bn',),
    'vgg16_bn': ('r_vgg16_bn',),
    'vgg19_bn': ('r_vgg19_bn',),
    'resnet10': ('r_resnet10',),
    'resnet34_in': ('r_resnet34_in',),
    'resnet50_in': ('r_resnet50_in',),
}
# What the self-distilling networks have beside their trunk.
BRANCHES = (
    *('scala1.0.op.0.weight', 'scala2.1.op.6.running_mean', 'scala3.0.op.6.num_batches_tracked'),
    *('attention1.0.op.0.weight', 'attention2.1.bias', 'attention3.1.running_var'),
    *('fc1.weight', 'fc1.bias', 'fc2.weight', 'fc2.bias', 'fc3.weight', 'fc3.bias'),
)
IMAGES = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LARGE_IMAGES = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@functools.lru_cache(maxsize=1)
def classifier(network, num_classes=100):
    """One model at a time: some are large."""
    return Classifier(network, num_classes, image_size=32)


def output_of(state, network, images=IMAGES):
    """Last stage map and logits."""
    model = classifier(network, len(list(state.values())[-1]))
    model.load_state_dict(state, strict=True)
    model.eval()
    with torch.no_grad():
        output = read(model, images)
    return output.stage(-1), output.logits


def assert_equal_relative_to_the_largest(found, expected):
    scale = expected.abs().max()
    assert expected.std() > 0.05 * scale  # not all the same
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-5)


def test_every_file_is_tested_and_every_layout_has_a_file():
    tested = [file for files in FILES.values() for file in files]
    assert sorted(tested) == sorted(path.stem for path in FOLDER.glob('*.txt'))
    layouts = {name: reference_layouts(name) for name in network_names()}
    assert {name: len(found) for name, found in layouts.items() if found} == {
        name: len(files) for name, files in FILES.items()
    }


@pytest.mark.parametrize(
    'network, file', [(network, file) for network, files in FILES.items() for file in files]
)
def test_map_and_logits_are_those_of_the_published_network(network, file):
    state = random_state(file)
    images = LARGE_IMAGES if REFERENCE[network].size == 64 else IMAGES
    with torch.no_grad():
        expected = reference_output(file, state, images)
    for found, wanted in zip(
        output_of(convert_reference(state, network), network, images), expected, strict=True
    ):
        assert_equal_relative_to_the_largest(found, wanted)


def test_every_teacher_has_weights_to_convert():
    configs = [Config.fromfile(path) for path in sorted(TEACHERS.glob('*.py'))]
    backbones = [cfg.model.backbone for cfg in configs]
    names = [name for name in backbones if isinstance(name, str)]  # mmpretrain's have its own
    assert len(names) > 20
    assert all(reference_layouts(name) == ('RepDistiller',) for name in names)


@pytest.mark.parametrize(
    'teacher, file',
    [('wrn16_2', 'wrn_16_2'), ('vgg8', 'vgg8'), ('mobilenet_v2', 'MobileNetV2')],
)
def test_converted_weights_fit_the_model_of_the_teacher_config(teacher, file, tmp_path):
    state = {f'module.{key}': value for key, value in random_state(f'r_{file}').items()}
    torch.save({'epoch': 240, 'model': state, 'best_acc': torch.tensor(75.6)}, tmp_path / 'in.pth')
    convert_file(tmp_path / 'in.pth', tmp_path / 'out.pth', teacher)
    model = MODELS.build(Config.fromfile(TEACHERS / f'{teacher}_cifar100.py').model)
    model.load_state_dict(load_file(tmp_path / 'out.pth')['state_dict'], strict=True)


@pytest.mark.parametrize('teacher, file', [('wrn16_2', 'wrn_16_2'), ('vgg8', 'vgg8')])
def test_a_teacher_by_name_takes_a_published_file_as_it_is(teacher, file, tmp_path):
    state = random_state(f'r_{file}')
    both = {f'module.teacher.{key}': value for key, value in state.items()}
    torch.save({'model': both, 'args': Namespace(lr=0.1)}, tmp_path / 'in.pth')
    found = Teacher(dict(arch=teacher, checkpoint=str(tmp_path / 'in.pth')), 100, 32)
    found.load()
    expected = convert_reference(state, teacher)
    weights = found.network.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


def test_the_grouped_convolutions_of_the_smaller_resnext_become_block_diagonal():
    state = random_state('w_resnext50')
    weight = convert_reference(state, 'resnext50_32x4d')['backbone.layer2.0.conv1.weight']
    grouped = state['conv3.0.split_transforms.0.weight']
    assert weight.shape == (256, 256, 1, 1) and grouped.shape == (256, 8, 1, 1)
    assert torch.equal(weight[8:16, 8:16], grouped[8:16]) and not weight[8:16, 16:].any()


@pytest.mark.parametrize('wrap', ['state_dict', 'model', 'net'])
def test_wrappers_prefixes_and_branches_are_taken_off(wrap):
    state = random_state('s_resnet18')
    parallel = {f'module.{key}': value for key, value in state.items()}
    parallel.update({f'module.{key}': torch.ones(3) for key in BRANCHES})
    plain, found = (
        convert_reference(given, 'resnet18') for given in (state, {wrap: parallel, 'epoch': 200})
    )
    assert list(found) == list(plain)
    assert all(torch.equal(found[key], plain[key]) for key in plain)


def small_state(num_classes=7):
    state = random_state('w_squeezenet')
    for key in ('conv10.weight', 'conv10.bias'):
        state[key] = state[key][:num_classes].clone()
    return state


@pytest.mark.parametrize('num_classes', [1, 7])
def test_the_class_count_is_found_in_the_file(tmp_path, num_classes):
    state = small_state(num_classes)
    torch.save({'net': state, 'acc': 70.5}, tmp_path / 'in.pth')
    convert_file(tmp_path / 'in.pth', tmp_path / 'folder' / 'out.pth', 'squeezenet')
    written = load_file(tmp_path / 'folder' / 'out.pth')
    assert set(written) == {'meta', 'state_dict'}
    assert written['meta'] == dict(arch='squeezenet', num_classes=num_classes, source='in.pth')
    _, logits = output_of(written['state_dict'], 'squeezenet')
    torch.testing.assert_close(logits, reference_output('w_squeezenet', state, IMAGES)[1])


def test_weights_of_half_precision_become_those_of_the_network():
    state = small_state()
    halves = {key: v.half() if v.is_floating_point() else v for key, v in state.items()}
    found = convert_reference(halves, 'squeezenet')
    assert {value.dtype for value in found.values()} == {torch.float32, torch.int64}
    assert torch.equal(found['backbone.stem.0.weight'], halves['stem.0.weight'].float())


def test_an_unknown_network_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="'squeezenets' .* did you mean 'squeezenet'"):
        convert_reference(small_state(), 'squeezenets')


def test_weights_of_another_family_are_refused():
    with pytest.raises(ValueError, match="no known layout of 'vgg11' .*weiaicunzai.*stem.0.weight"):
        convert_reference(small_state(), 'vgg11')


def test_weights_of_another_depth_are_refused():
    with pytest.raises(
        RuntimeError, match="as 'resnet34' does not fit.*missing: backbone.layer1.2"
    ):
        convert_reference(random_state('s_resnet18'), 'resnet34')


@pytest.mark.parametrize('state', [{}, {'epoch': 3, 'weights': {}}, {'model': [1, 2]}])
def test_a_file_without_tensors_is_refused(state):
    with pytest.raises(ValueError, match='mine must hold tensors by name'):
        convert_reference(state, 'squeezenet', 'mine')


def test_a_classifier_without_bias_is_missing():
    state = small_state()
    del state['conv10.weight'], state['conv10.bias']
    with pytest.raises(RuntimeError, match='missing: head.fc.weight, head.fc.bias:'):
        convert_reference(state, 'squeezenet')


def missing(state):
    del state['fire5.squeeze.1.running_var']


def unexpected(state):
    state['fire10.squeeze.0.weight'] = torch.zeros(2)
    state['extra.scale'] = torch.zeros(())


def misshapen(state):
    state['fire2.squeeze.0.weight'] = torch.zeros(16, 96, 3, 3)


def misshapen_classifier(state):
    state['conv10.weight'] = torch.zeros(5, 512, 1, 1)


@pytest.mark.parametrize(
    'spoil, message',
    [
        (missing, 'missing: backbone.fire5.squeeze.1.running_var:'),
        # in the names of the file
        (unexpected, 'unexpected: fire10.squeeze.0.weight, extra.scale:'),
        (misshapen, r'misshapen: .*squeeze.0.weight \(16, 96, 3, 3\) instead of \(16, 96, 1, 1\):'),
        (misshapen_classifier, r'misshapen: head.fc.weight \(5, 512\) instead of \(7, 512\):'),
    ],
)
def test_what_does_not_fit_is_named(spoil, message):
    state = small_state()
    spoil(state)
    with pytest.raises(RuntimeError, match=f"file 'x' as 'squeezenet' does not fit.*{message}"):
        convert_reference(state, 'squeezenet', "file 'x'")


def test_two_names_for_one_parameter_are_refused():
    state = {**random_state('s_resnet18'), 'head.fc.bias': torch.zeros(100)}
    with pytest.raises(ValueError, match="as 'resnet18' holds 'head.fc.bias' twice"):
        convert_reference(state, 'resnet18')


def run_tool(*arguments):
    tool = Path(__file__).resolve().parents[2] / 'tools' / 'convert_checkpoint.py'
    return subprocess.run(
        [sys.executable, str(tool), *map(str, arguments)], capture_output=True, text=True
    )


def test_the_tool_converts(tmp_path):
    torch.save(small_state(), tmp_path / 'in.pth')
    done = run_tool(tmp_path / 'in.pth', tmp_path / 'out.pth', '--arch', 'squeezenet')
    assert done.returncode == 0, done.stderr
    assert load_file(tmp_path / 'out.pth')['meta']['num_classes'] == 7


def test_a_truncated_file_is_one_sentence_and_nothing_is_written(tmp_path):
    torch.save(small_state(), tmp_path / 'in.pth')
    data = (tmp_path / 'in.pth').read_bytes()
    (tmp_path / 'in.pth').write_bytes(data[: len(data) // 2])
    done = run_tool(tmp_path / 'in.pth', tmp_path / 'out.pth', '--arch', 'squeezenet')
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith('checkpoint') and 'truncated' in message
    assert 'Traceback' not in done.stderr and not (tmp_path / 'out.pth').exists()
