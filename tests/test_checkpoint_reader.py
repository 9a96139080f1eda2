"""Files of weights, whoever wrote them: read completely or refused in a sentence; no code runs."""

import argparse
import builtins
import collections
import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections import Counter, OrderedDict
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import _load_checkpoint
from torch import nn

from mmkdfuse.checkpoint import unpack_resume_state
from mmkdfuse.checkpoint_reader import (
    STUDENT,
    TEACHER,
    checkpoint_path,
    load_file,
    read_weights,
    register_safe_loaders,
)
from mmkdfuse.inert_pickle import Inert, ProgramError, read_without_code

ZIPPED = pytest.mark.parametrize('zipped', [True, False])


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


@pytest.fixture
def state():
    torch.manual_seed(0)
    return network().state_dict()


def prefixed(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def save(content, path, zipped=True, **options):
    torch.save(content, path, _use_new_zipfile_serialization=zipped, **options)
    return path


def same(found, expected):
    return found.keys() == expected.keys() and all(
        torch.equal(found[key], expected[key]) for key in expected
    )


# ---- Files that hold code


class Reduced:
    """An object that a pickle makes by calling a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def reach(victim):
    return Reduced(os.mkdir, str(victim))


@ZIPPED
@pytest.mark.parametrize('reader', [load_file, _load_checkpoint])
def test_a_file_that_runs_a_program_is_refused_and_not_run(tmp_path, zipped, reader, state):
    register_safe_loaders()
    victim = tmp_path / 'victim'
    path = save({'state_dict': state, 'meta': reach(victim)}, tmp_path / 'bad.pth', zipped)
    with pytest.raises(RuntimeError, match=r'bad\.pth.* holds posix\.mkdir, .*state_dict'):
        reader(str(path))
    assert not victim.exists()


def through_a_state(victim):
    class State:
        def __reduce__(self):
            return collections.OrderedDict, (), {'__class__': Reduced(os.mkdir, str(victim))}

    return State()


HOSTILE = {
    'builtins.exec': lambda victim: Reduced(exec, f'import os; os.mkdir({str(victim)!r})'),
    'builtins.eval': lambda victim: Reduced(eval, f'__import__("os").mkdir({str(victim)!r})'),
    'posix.mkdir': lambda victim: [{'deep': (reach(victim),)}],
    'a call of a call': lambda victim: Reduced(map, os.mkdir, [str(victim)]),
    'state': through_a_state,
    'numpy': lambda victim: np.array([reach(victim)], dtype=object),
    'shutil': lambda victim: Reduced(__import__('shutil').rmtree, str(victim.parent)),
    'subprocess': lambda victim: Reduced(__import__('subprocess').call, ['mkdir', str(victim)]),
    'open': lambda victim: Reduced(builtins.open, str(victim), 'w'),
    'pathlib': lambda victim: Reduced(Path.mkdir, victim),
    'pickle': lambda victim: Reduced(pickle.loads, pickle.dumps(reach(victim))),
    'torch': lambda victim: Reduced(torch.save, {}, str(victim)),
    'numpy.save': lambda victim: Reduced(np.save, str(victim), np.zeros(1)),
}


@ZIPPED
@pytest.mark.parametrize('protocol', [2, 4, 5])
@pytest.mark.parametrize('kind', sorted(HOSTILE))
def test_nothing_in_a_hostile_file_runs(tmp_path, state, kind, zipped, protocol):
    folder = tmp_path / 'inner'
    folder.mkdir()
    victim = folder / 'victim'
    content = {'state_dict': state, 'meta': HOSTILE[kind](victim)}
    path = save(content, tmp_path / 'bad.pth', zipped, pickle_protocol=protocol)
    try:
        found = read_weights(path, 'bad.pth')
    except RuntimeError as error:
        assert 'bad.pth' in str(error) and '\n' not in str(error)
    else:
        assert same(found, state)
    assert folder.exists() and not list(folder.iterdir())


def test_a_shared_function_cannot_be_changed(tmp_path):
    """A pickle that fills a function or class with a state would outlive its file."""
    kept = vars(torch._utils._rebuild_tensor_v2).copy()
    commands = b'\x80\x02}X\x01\x00\x00\x00ac%s}X\x04\x00\x00\x00evilK\x01sbs.'
    for name in (b'torch._utils\n_rebuild_tensor_v2\n', b'collections\nOrderedDict\n'):
        archive = io.BytesIO()
        torch.save({}, archive)
        path = tmp_path / 'bad.pth'
        with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, 'w') as new:
            for each in old.namelist():
                new.writestr(each, commands % name if each.endswith('.pkl') else old.read(each))
        read_without_code(path, 'cpu')
    assert vars(torch._utils._rebuild_tensor_v2) == kept
    assert not hasattr(OrderedDict, 'evil')


def test_every_loader_of_mmengine_is_replaced():
    register_safe_loaders()
    modules = {loader.__module__ for loader in CheckpointLoader._schemes.values()}
    assert modules == {'mmkdfuse.checkpoint_reader'}
    with pytest.raises(RuntimeError, match='s3://a.pth.*download it'):
        _load_checkpoint('s3://a.pth')


def test_loaders_that_a_fork_registers_are_replaced(tmp_path, monkeypatch):
    def unpickle(filename, map_location=None):
        return torch.load(filename, weights_only=False)

    monkeypatch.setattr(CheckpointLoader, '_schemes', {'': unpickle, 'own://': unpickle})
    register_safe_loaders()
    victim = tmp_path / 'victim'
    path = save({'a': reach(victim)}, tmp_path / 'bad.pth')
    for address in (str(path), f'own://{path}'):
        with pytest.raises(RuntimeError):
            _load_checkpoint(address)
    assert not victim.exists()


# ---- Files that hold other objects than tensors


class Opaque:
    def __init__(self):
        self.value = [1]


class Slots:
    __slots__ = ('value',)


class OwnList(list):
    pass


def objects():
    slots = Slots()
    slots.value = 3
    config = ConfigDict(a=dict(b=1))
    history = HistoryBuffer([1.0, 2.0], [1, 1], max_length=7)
    return dict(
        slots=slots,
        opaque=Opaque(),
        namespace=argparse.Namespace(lr=0.1, path=Path('a/b')),
        config=config,
        path=Path('a/b'),
        time=datetime(2020, 1, 2),
        default=collections.defaultdict(list, a=[1]),
        queue=collections.deque([1, 2]),
        own_list=OwnList([1, 2]),
        history=history,
        scalars=[np.float64(0.5), np.int32(3), np.bool_(True), np.str_('x')],
        array=np.arange(6, dtype='>i4').reshape(2, 3),
        fortran=np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        texts=np.array(['a', 'bc']),
        mixed=np.array([1, 'a', None], dtype=object),
        random=np.random.RandomState(0),
        counter=Counter(a=2),
        kind=Opaque,
        function=os.path.join,
        partial=__import__('functools').partial(print, 1),
        size=torch.Size([1, 2]),
        parameter=nn.Parameter(torch.ones(2)),
    )


@ZIPPED
@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_other_objects_come_as_plain_values_or_records(tmp_path, zipped, protocol, state):
    content = {'state_dict': state, **objects()}
    path = save(content, tmp_path / 'a.pth', zipped, pickle_protocol=protocol)
    found = unpack_resume_state(load_file(path))
    assert same(found['state_dict'], state)
    for key in ('slots', 'opaque', 'namespace', 'time', 'random', 'kind', 'function', 'partial'):
        assert type(found[key]) is Inert, key
    assert found['namespace'].state == dict(lr=0.1, path='a/b')
    assert found['opaque'].state == dict(value=[1])
    assert found['config'] == dict(a=dict(b=1)) and type(found['config']) is dict
    assert found['path'] == 'a/b'
    assert found['default'] == dict(a=[1])
    assert found['own_list'] == [1, 2]
    assert found['history'].mean(2) == 1.5 and found['history'].max_length == 7
    assert found['scalars'] == [0.5, 3, True, 'x'] and type(found['scalars'][0]) is float
    for key in ('array', 'fortran', 'texts', 'mixed'):
        np.testing.assert_array_equal(found[key], content[key])
    assert found['counter'] == Counter(a=2) and type(found['counter']) is Counter
    assert found['size'] == torch.Size([1, 2])
    assert torch.equal(found['parameter'], torch.ones(2))


def test_shared_and_circular_values(tmp_path):
    shared = [np.float64(1)]
    loop = {'self': None, 'n': np.float64(2)}
    loop['self'] = loop
    path = save({'a': shared, 'b': (shared, shared), 'loop': loop}, tmp_path / 'a.pth')
    found = load_file(path)
    assert found['a'] == [1.0] and found['b'][0] is found['a']
    assert found['loop']['self'] is found['loop'] and found['loop']['n'] == 2.0


def test_a_plain_checkpoint_keeps_its_types(tmp_path):
    content = {'meta': {'epoch': 3}, 'state_dict': OrderedDict(w=torch.arange(3.0))}
    found = load_file(save(content, tmp_path / 'plain.pth'))
    assert found['meta'] == {'epoch': 3}
    assert type(found['state_dict']) is OrderedDict
    assert found['state_dict']['w'].tolist() == [0, 1, 2]


@ZIPPED
@pytest.mark.parametrize('wrap', [lambda m: m, lambda m: {'model': m, 'epoch': 3}])
def test_a_network_saved_as_an_object_gives_its_weights(tmp_path, zipped, wrap):
    module = network()
    module.register_buffer('hidden', torch.zeros(2), persistent=False)
    path = save(wrap(module), tmp_path / 'whole.pth', zipped)
    assert same(read_weights(path, 'whole.pth'), module.state_dict())


def test_an_object_without_weights_is_refused(tmp_path):
    path = save({'model': Opaque()}, tmp_path / 'a.pth')
    with pytest.raises(RuntimeError, match=r'^x holds an object of .*Opaque, .*state_dict'):
        read_weights(path, 'x')


# ---- Layouts


LAYOUTS = {
    'bare': lambda s: s,
    'state_dict': lambda s: {'state_dict': s},
    'model': lambda s: {'model': s, 'epoch': 240, 'best_acc': torch.tensor(99.0)},
    'net': lambda s: {'net': s, 'acc': 70.5},
    'nested': lambda s: {'model': {'state_dict': s}, 'epoch': 1},
    'deepspeed': lambda s: {'module': s, 'lr': 0.1},
    'optimizer': lambda s: {'state_dict': s, 'optimizer': {'state': {}, 'param_groups': []}},
    'scalar': lambda s: {'state_dict': s, 'best_acc': np.float64(0.99)},
    'namespace': lambda s: {'state_dict': s, 'args': argparse.Namespace(lr=0.1)},
    'ema beside it': lambda s: {
        'state_dict': s,
        'state_dict_ema': {k: v * 0 for k, v in s.items()},
    },
    'arrays': lambda s: {'model': {k: v.numpy() for k, v in s.items()}},
    'mmengine': lambda s: {
        'meta': {'epoch': 6, 'dataset_meta': {'classes': ('a', 'b')}},
        'state_dict': s,
        'message_hub': {'log_scalars': {'train/loss': HistoryBuffer([1.0], [1])}},
    },
}
PREFIXES = ['', 'module.', '_orig_mod.', 'model.', 'module._orig_mod.', '_orig_mod.module.model.']


@pytest.mark.parametrize('prefix', PREFIXES)
@pytest.mark.parametrize('layout', sorted(LAYOUTS))
def test_every_layout_with_every_prefix(tmp_path, state, layout, prefix):
    path = save(LAYOUTS[layout](prefixed(prefix, state)), tmp_path / 'a.pth')
    assert same(read_weights(path, 'a.pth'), state)


@pytest.mark.parametrize('prefix', ['', 'module.', 'architecture.'])
@pytest.mark.parametrize('student', ['student.', 'architecture.'])
@pytest.mark.parametrize('role', [STUDENT, TEACHER])
def test_of_two_networks_the_one_of_the_role_is_taken(tmp_path, state, prefix, student, role):
    zeros = {key: torch.zeros_like(value) for key, value in state.items()}
    both = {**prefixed('teacher.', state), **prefixed(student, zeros), 'connector.w': torch.ones(1)}
    path = save({'state_dict': prefixed(prefix, both)}, tmp_path / 'razor.pth')
    assert same(read_weights(path, 'razor.pth', role=role), state if role == TEACHER else zeros)


def test_a_distilled_student_may_teach(tmp_path, state):
    path = save({'state_dict': prefixed('student.module.', state)}, tmp_path / 'a.pth')
    assert same(read_weights(path, 'a.pth', role=TEACHER), state)


def test_compiled_parts_and_counters_of_averages(tmp_path, state):
    compiled = {key.replace('0.', '0._orig_mod.', 1): value for key, value in state.items()}
    path = save(
        {**prefixed('module.', compiled), 'n_averaged': torch.tensor(3)}, tmp_path / 'a.pth'
    )
    assert same(read_weights(path, 'a.pth'), state)


def test_a_prefix_that_the_module_has_stays(tmp_path, state):
    named = prefixed('model.', state)
    path = save({'state_dict': prefixed('module.', named)}, tmp_path / 'a.pth')
    assert same(read_weights(path, 'a.pth', own=named), named)


def test_averaged_weights_are_read_on_request(tmp_path, state):
    average = {key: value * 0 for key, value in state.items()}
    content = {'state_dict': state, 'state_dict_ema': prefixed('module.', average)}
    path = save(content, tmp_path / 'a.pth')
    found = read_weights(dict(file=path, key='state_dict_ema'), 'a.pth')
    assert same(found, average)
    with pytest.raises(
        RuntimeError, match=r"^a.pth holds nothing under key='ema', .*'state_dict',"
    ):
        read_weights(dict(file=path, key='ema'), 'a.pth')


@pytest.mark.parametrize(
    'wrong', [3, dict(key='a'), dict(file='a', ema=True), dict(file='a', key=1)]
)
def test_other_ways_to_name_a_file_are_refused(wrong):
    with pytest.raises(ValueError, match=r'^load_from=.* must be a path, or dict\(file=path\)'):
        checkpoint_path(wrong, 'load_from')


@pytest.mark.parametrize(
    ('content', 'holds'),
    [
        ({}, 'has the keys none'),
        ({'epoch': 3}, "has the keys 'epoch'"),
        ({'model': [1]}, "has the keys 'model'"),
        ({'state_dict': {'a': 1}}, "has the keys 'a'"),
        ({'w': torch.ones(1), 'epoch': 3}, "has beside them the keys 'epoch'"),
    ],
)
def test_a_file_without_weights_is_refused_with_its_keys(tmp_path, content, holds):
    path = save(content, tmp_path / 'a.pth')
    with pytest.raises(RuntimeError, match=f'^mine must hold tensors by name.* and {holds}: give'):
        read_weights(path, 'mine')


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read_and_cast_where_they_are_loaded(tmp_path, state, dtype):
    halves = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
    path = save({'state_dict': halves}, tmp_path / 'a.pth')
    module = network()
    module.load_state_dict(read_weights(path, 'a.pth'), strict=True)
    assert module[0].weight.dtype == torch.float32
    assert torch.equal(module[0].weight, halves['0.weight'].float())


# ---- Files of safetensors


def test_safetensors(tmp_path, state):
    safetensors = pytest.importorskip('safetensors.torch')
    path = tmp_path / 'a.safetensors'
    safetensors.save_file(prefixed('module.', state), path)
    assert same(read_weights(path, 'a'), state)
    os.rename(path, tmp_path / 'a.pth')  # known by its content too
    assert same(read_weights(tmp_path / 'a.pth', 'a'), state)
    path.write_bytes((tmp_path / 'a.pth').read_bytes()[:-8])
    with pytest.raises(RuntimeError, match='a.safetensors.*truncated'):
        load_file(path)


def test_safetensors_without_the_package(tmp_path, monkeypatch):
    path = tmp_path / 'a.safetensors'
    path.write_bytes(struct.pack('<Q', 2) + b'{}' + b' ' * 8)
    monkeypatch.setitem(__import__('sys').modules, 'safetensors.torch', None)
    with pytest.raises(RuntimeError, match=r'not installed: `pip install safetensors`'):
        load_file(path)


# ---- Damaged files, and files of something else


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_weights_that_are_not_finite_are_refused(tmp_path, state, value, dtype):
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
    state['1.running_var'][2] = value
    path = save({'state_dict': state}, tmp_path / 'a.pth')
    kind = 'NaN' if value != value else 'infinite values'
    with pytest.raises(RuntimeError, match=f"^a.pth holds {kind} in '1.running_var': its training"):
        read_weights(path, 'a.pth')


def test_large_weights_are_finite(tmp_path, state):
    state['0.weight'].fill_(1e38)
    path = save({'state_dict': state}, tmp_path / 'a.pth')
    assert same(read_weights(path, 'a.pth'), state)


def test_only_the_weights_that_are_used_must_be_finite(tmp_path, state):
    other = {key: value * float('nan') for key, value in state.items()}
    both = {**prefixed('teacher.', state), **prefixed('student.', other)}
    assert same(read_weights(save(both, tmp_path / 'a.pth'), 'a.pth', role=TEACHER), state)


@ZIPPED
@pytest.mark.parametrize('kept', [0, 100, -30, 0.5])
def test_truncated_file(tmp_path, zipped, kept):
    path = save({'state_dict': {'w': torch.zeros(1000)}}, tmp_path / 'whole.pth', zipped)
    whole = path.read_bytes()
    kept = int(kept * len(whole)) if isinstance(kept, float) else kept
    (tmp_path / 'part.pth').write_bytes(whole[:kept])
    with pytest.raises(RuntimeError, match=r'part\.pth.*truncated or not a file of torch\.save'):
        load_file(tmp_path / 'part.pth')


def test_a_flipped_bit_is_found(tmp_path, state):
    """``torch.load`` does not compare the check sums."""
    path = save({'state_dict': state}, tmp_path / 'a.pth')
    data = bytearray(path.read_bytes())
    place = data.find(state['0.weight'].numpy().tobytes()[:16])
    data[place] ^= 1
    path.write_bytes(data)
    torch.load(path, weights_only=True)
    with pytest.raises(RuntimeError, match=r"a\.pth' is damaged, the check sum of .*data/0"):
        load_file(path)


def test_a_file_written_without_check_sums(tmp_path, state):
    torch.serialization.set_crc32_options(False)
    try:
        path = save(state, tmp_path / 'a.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(load_file(path), state)


def tar(path):
    with tarfile.open(path, 'w') as archive:
        archive.add(__file__, 'storages')


def zipped_text(path):
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('readme.txt', 'hello')


OTHERS = {
    'an empty file': (lambda path: path.write_bytes(b''), 'is empty'),
    'a folder': (Path.mkdir, 'is a directory'),
    'a page': (lambda path: path.write_text('\n<!DOCTYPE html><p>Log in'), 'is a web page'),
    'a pointer': (
        lambda path: path.write_text('version https://git-lfs.github.com/spec/v1\n'),
        'Git LFS',
    ),
    'text': (lambda path: path.write_text('hello world'), 'a text file, not a file of torch.save'),
    'bytes': (lambda path: path.write_bytes(bytes(range(256)) * 9), 'not a file of torch.save'),
    'tar': (tar, 'is a tar archive'),
    'zip': (zipped_text, 'is a zip archive, not a file of torch.save'),
    'pickle': (lambda path: path.write_bytes(pickle.dumps({'a': 1})), 'not a file of torch.save'),
    'list': (lambda path: torch.save([1, 2], path), 'holds a list, expected a dict'),
    'program': (
        lambda path: torch.jit.save(torch.jit.script(nn.Linear(1, 1)), path),
        'a program of TorchScript',
    ),
}


@pytest.mark.filterwarnings('ignore:.*torch.jit')
@pytest.mark.parametrize('kind', sorted(OTHERS))
def test_files_of_something_else_are_named_in_one_sentence(tmp_path, kind):
    write, problem = OTHERS[kind]
    write(tmp_path / 'other.pth')
    with pytest.raises(RuntimeError, match=problem) as error:
        load_file(tmp_path / 'other.pth')
    assert 'other.pth' in str(error.value) and '\n' not in str(error.value)


@pytest.mark.filterwarnings('ignore:.*torch.jit')
def test_a_program_of_torchscript_is_not_started(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), tmp_path / 'a.pth')
    with pytest.raises(ProgramError):
        read_without_code(tmp_path / 'a.pth', 'cpu')


def test_missing_file():
    with pytest.raises(FileNotFoundError, match='nowhere.pth.*does not exist'):
        load_file('nowhere.pth')
