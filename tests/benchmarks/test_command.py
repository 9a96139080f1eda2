"""``python -m benchmarks``: what it prints, writes and refuses."""

import json
import platform
from types import SimpleNamespace

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks.measure import Row, Timing, ratio
from benchmarks.parts import Result
from benchmarks.report import table

TIMINGS = {'new': Timing.of([1.0, 2.0, 3.0], 4), 'old': Timing.of([2.0, 4.0, 6.0], 5)}


@pytest.fixture
def part(monkeypatch):
    """A part whose options are kept."""

    def measure(options):
        part.options = options
        return [
            ratio('new / old', TIMINGS, 'new', 'old', '<= 0.4'),
            Row('calls', 0.0, unit='calls', target='== 0'),
            Row('size', 12345.6, unit='kB', details={'of these': 7.0}),
        ]

    part = SimpleNamespace(TITLE='a part', measure=measure, options=None)
    monkeypatch.setattr(command, 'choose_parts', lambda names: {'fake': part})
    return part


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_prints_machine_versions_threads_and_a_table(part, capsys):
    assert command.main(['--threads', '1', '--rounds', '5', '--seconds', '0.25']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('machine ') and ' cores' in lines[0]
    assert (
        f'python {platform.python_version()}, torch {torch.__version__.split("+")[0]}' in lines[1]
    )
    assert all(name in lines[1] for name in ('torchvision', 'mmengine', 'mmpretrain', 'mmcv'))
    assert 'threads   1, device cpu, 5 rounds of 0.25 s' in lines[2]
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines[6:]]
    assert lines[4] == '### fake: a part'
    assert cells[0] == ['case', 'ratio', 'target', '', 'figures']
    assert cells[2:] == [
        [
            *('new / old', '0.5 (0.5 - 0.5)', '<= 0.4', 'not met'),
            'new ms 2 (1.5 - 2.5); old ms 4 (3 - 5)',
        ],
        ['calls', '0 calls', '== 0', 'met', ''],
        ['size', '12,346 kB', '', '', 'of these 7'],
    ]
    assert (part.options.rounds, part.options.seconds, part.options.short) == (5, 0.25, False)


def test_writes_everything_as_json(part, tmp_path):
    assert command.main(['--short', '--json', str(tmp_path / 'out.json')]) == 0
    record = json.loads((tmp_path / 'out.json').read_text())
    assert record['machine']['cpu'] and record['machine']['cores'] >= 1
    assert record['versions']['torch'] and record['threads'] == 1
    assert record['options']['short'] is True and record['options']['device'] == 'cpu'
    (written,) = record['parts']
    assert written['part'] == 'fake' and len(written['rows']) == 3
    assert (written['rows'][0]['value'], written['rows'][0]['held']) == (0.5, False)
    assert written['rows'][0]['details']['old ms'] == 4


def test_figures_of_different_sizes_stay_readable():
    values = (0.0000123, 0.0123456, 1.23456, 999.94, 54321.0)
    rows = [Row(f'case {value}', value) for value in values]
    lines = table(Result('name', 'title', rows)).splitlines()[4:]
    cells = [line.split('|')[2].strip() for line in lines]
    assert cells == ['0.000012', '0.01235', '1.235', '999.9', '54,321']


def test_unknown_parts_are_refused_with_those_there_are(capsys):
    assert command.main(['evaluation', 'kmf']) == 2
    error = capsys.readouterr().err
    assert "There is no part 'kmf'; the parts are " in error
    assert 'evaluation' in error.partition(';')[2] and error.count('\n') == 1


def test_a_missing_gpu_and_wrong_options_are_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert command.main(['--device', 'cuda']) == 2
    assert "device 'cuda' needs a GPU, but PyTorch finds none." in capsys.readouterr().err
    assert command.main(['--rounds', '1']) == 2
    assert 'rounds must be at least 2, got 1.' in capsys.readouterr().err
