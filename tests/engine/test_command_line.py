"""Every tool ends a user's mistake with one sentence on stderr and exit status 1."""

import argparse
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmkdfuse.engine import command_line
from mmkdfuse.engine.command_line import Parser, add_changes, add_launcher
from mmkdfuse.engine.config_file import ConfigError
from mmkdfuse.engine.error_text import is_raw, note_start, readable, whereabouts

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / 'configs/quickstart/kfmsd_digits.py')
NOWHERE = 'no/such/file.pth'


@pytest.fixture
def tool(capsys, monkeypatch):
    """Runs a tool in this process; returns exit status and what stands on stderr."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', *map(str, arguments)])
        code = None
        try:
            runpy.run_path(str(ROOT / f'tools/{name}.py'), run_name='__main__')
        except SystemExit as end:
            code = end.code
        err = capsys.readouterr().err
        # Python prints a text and exits with 1.
        return (1, err + code) if isinstance(code, str) else (code or 0, err)

    return run


CALLS = {
    'train': [CONFIG],
    'test': [CONFIG, NOWHERE],
    'deploy': [CONFIG, NOWHERE],
    'early_exit': [CONFIG, NOWHERE],
    'compare': [CONFIG],
    'check_config': [CONFIG],
}


@pytest.mark.parametrize('name', CALLS)
@pytest.mark.parametrize(
    ('option', 'mention'),
    [
        ('model.num_classes:5', 'expected key=value'),
        ('=5', 'empty part'),
        ('.model.num_classes=10', 'empty part'),
        ('model..num_classes=10', 'empty part'),
        ('model.image_size=[32,32', 'bracket'),
        ('model.image_size=(32', 'bracket'),
    ],
)
def test_changes_that_cannot_be_read(tool, name, option, mention):
    status, err = tool(name, *CALLS[name], '--cfg-options', option)
    assert status == 1
    assert repr(option) in err and mention in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ('name', 'arguments', 'mention'),
    [
        ('train', ['no/such/config.py'], "config='no/such/config.py'"),
        ('train', [CONFIG, '--resume', NOWHERE], NOWHERE),
        ('train', [CONFIG, '--launcher', 'foo'], 'foo'),
        ('train', [CONFIG, '--launcher'], 'expected one argument'),
        ('train', [CONFIG, '--auto-scale-lr'], 'base_batch_size'),
        ('train', [CONFIG, '--foo'], '--foo'),
        ('train', [], 'config'),
        ('train', [CONFIG, '--cfg-options', 'param_scheduler.7.end=1'], 'param_scheduler.7.end'),
        ('train', [CONFIG, '--cfg-options', 'launcher=foo'], '`launcher` = '),
        ('test', [CONFIG, NOWHERE], NOWHERE),
        ('test', ['no/such/config.py', NOWHERE], 'no/such/config.py'),
        ('test', [CONFIG, NOWHERE, '--out-item', 'all'], 'all'),
        ('deploy', [CONFIG, NOWHERE], NOWHERE),
        ('deploy', [CONFIG, NOWHERE, '--seconds', 'abc'], 'abc'),
        ('deploy', ['no/such/config.py', NOWHERE], 'no/such/config.py'),
        ('early_exit', [CONFIG, NOWHERE], NOWHERE),
        ('early_exit', [CONFIG, NOWHERE, '--thresholds', 'abc'], 'abc'),
        ('compare', ['no/such/config.py'], 'no/such/config.py'),
        ('compare', ['--table', 'no/such/folder'], 'no/such/folder'),
        ('compare', [CONFIG, '--seeds', 'abc'], 'abc'),
        ('convert_checkpoint', [NOWHERE, 'out.pth', '--arch', 'resnet18'], NOWHERE),
        ('convert_checkpoint', [NOWHERE, 'out.pth'], '--arch'),
        ('check_config', [CONFIG, '--foo'], '--foo'),
    ],
)
def test_a_mistake_is_one_sentence(tool, monkeypatch, tmp_path, name, arguments, mention):
    monkeypatch.chdir(tmp_path)
    status, err = tool(name, *arguments)
    assert status == 1
    assert mention in err
    assert 'Traceback' not in err and len(err.strip().splitlines()) == 1, err


@pytest.mark.skipif(os.environ.get('RANK') is not None, reason='torchrun runs this test')
def test_a_launcher_without_its_processes(tool, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if torch.cuda.is_available():
        return
    for name in ('train', 'test'):
        (tmp_path / 'file.pth').write_bytes(b'')
        status, err = tool(
            name, *([CONFIG] if name == 'train' else [CONFIG, 'file.pth']), '--launcher', 'pytorch'
        )
        assert status == 1 and "launcher='pytorch': start with torchrun" in err


def test_the_test_tool_checks_names_and_values(tool, tmp_path, trained):
    options = [f'{key}={value}' for key, value in trained.options.items()]
    call = ['test', trained.config, trained.checkpoint, '--work-dir', tmp_path, '--cfg-options']
    for option, mention in (
        ('model.gama=1', "nearest valid name: 'gamma'"),
        ('model.gamma=abc', 'expected a number'),
        ('test_dataloader.batch_size=0', 'expected an integer >= 1'),
        ('test_evaluator.topk=abc', 'expected an integer or a list of integers'),
        ('model.num_classes=9', '10 classes'),
    ):
        status, err = tool(*call, *options, option)
        assert status == 1 and mention in err, err
    # What a test does not read is not judged.
    status, err = tool(*call, *options, 'train_dataloader.batch_size=0', 'train_cfg.foo=1')
    assert status == 0, err


@pytest.mark.parametrize('name', ['deploy', 'early_exit'])
def test_a_model_that_cannot_be_built(tool, tmp_path, trained, name):
    out = ['--out' if name == 'deploy' else '--out-dir', tmp_path]
    options = [f'{key}={value}' for key, value in trained.options.items()]
    for option, mention in (
        ('model.gamma=abc', "`model.gamma` = 'abc': expected a number"),
        ('model.gamma=2', 'gamma=2 must be in [0, 1]'),
        ('model.backbone.base_channels=abc', "`model.backbone.base_channels` = 'abc': "),
    ):
        call = [trained.config, trained.checkpoint, *out, '--cfg-options', *options, option]
        status, err = tool(name, *call)
        assert status == 1 and mention in err and 'Traceback' not in err, err


def test_an_unknown_network_to_convert(tool, tmp_path):
    torch.save({}, tmp_path / 'in.pth')
    files = [tmp_path / 'in.pth', tmp_path / 'out.pth']
    status, err = tool('convert_checkpoint', *files, '--arch', 'resnet81')
    assert status == 1 and 'resnet81' in err


def test_a_bug_keeps_its_traceback():
    def buggy():
        return 1 < 'a'

    with pytest.raises(TypeError):
        command_line.run(buggy)


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ('error', 'sentence'),
    [
        (ConfigError(['`a` = 1: wrong.']), '`a` = 1: wrong.'),
        (FileNotFoundError(2, 'No such file or directory', 'x.pth'), "No such file .*: 'x.pth'."),
    ],
)
def test_what_the_user_can_mend(error, sentence):
    with pytest.raises(SystemExit) as info:
        command_line.run(raising(error))
    assert re.fullmatch(sentence, info.value.code)


def test_an_error_before_the_first_iteration_is_a_sentence():
    error = KeyError('a hook')
    note_start(error)
    with pytest.raises(SystemExit, match='the run cannot start: a hook'):
        command_line.run(raising(error))


def test_status_and_interrupt():
    command_line.run(lambda: None)
    for main, status in ((lambda: 1, 1), (raising(KeyboardInterrupt()), 130)):
        with pytest.raises(SystemExit) as info:
            command_line.run(main)
        assert info.value.code == status


def test_changes_are_read_as_mmengine_reads_them():
    parser = Parser()
    add_changes(parser)
    add_launcher(parser)
    arguments = ['a.b=1', 'c=[1,(2,x)]', 'd=1.5,true', 'e==', 'f=None']
    args = parser.parse_args(['--cfg-options', *arguments])
    assert args.cfg_options == {
        'a.b': 1,
        'c': [1, (2, 'x')],
        'd': [1.5, True],
        'e': '=',
        'f': None,
    }
    assert args.launcher == 'none'
    assert isinstance(parser, argparse.ArgumentParser)


def test_raw_errors_are_told_from_explained_ones():
    for raw in (lambda: [][1], lambda: {}['a'], lambda: 1 + 'a', lambda: int('abc'), lambda: 1 / 0):
        try:
            raw()
        except Exception as error:
            assert is_raw(error) and readable(error) == ''
            assert 'test_command_line.py' in whereabouts(error)
    for explained in (ValueError('lr is positive'), AssertionError('sides are even')):
        try:
            raise explained
        except Exception as error:
            assert readable(error) == str(error)


def test_a_real_process_prints_no_traceback(tmp_path):
    run = subprocess.run(
        [sys.executable, str(ROOT / 'tools/train.py'), CONFIG, '--cfg-options', 'model.gamma=abc'],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )
    assert run.returncode == 1
    assert "`model.gamma` = 'abc': expected a number.\n" in run.stderr
    assert 'Traceback' not in run.stderr and not list(tmp_path.iterdir())
