"""Suites: reading, order, budget, resume, the table."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from mmkdfuse.engine.launch import load_config
from mmkdfuse.sweeps import Row, Suite, reproduce
from mmkdfuse.sweeps.reproduction import results, table
from mmkdfuse.sweeps.suite import config_root, read_suite

ROOT = Path(__file__).resolve().parents[2]
SUITES = sorted((ROOT / 'configs' / 'suites').glob('*.yml'))
TINY = {
    'model.backbone.base_channels': 4,
    'model.backbone.stem_channels': 4,
    'train_dataloader.batch_size': 16,
    'train_dataloader.dataset.subset': 32,
    'val_dataloader.dataset.subset': 20,
    'train_cfg.max_epochs': 1,
}


def suite_of(**options):
    rows = (
        Row('alone', 'quickstart/baseline_digits.py', (0, 1), {**TINY, **options}, {'main': 77.5}),
        Row('kfmsd', 'quickstart/kfmsd_digits.py', (0,), {**TINY, **options}),
    )
    return Suite('Digits', rows)


@pytest.mark.slow
def test_rows_are_trained_once_and_fill_the_table(tmp_path, capsys):
    suite = suite_of()
    assert reproduce(suite, tmp_path, budget=0).count('| alone |') == 1
    assert results(suite, tmp_path) == []
    text = reproduce(suite, tmp_path)
    trained = [line for line in capsys.readouterr().out.splitlines() if 'training' in line]
    assert [line.split(':')[0].split('/')[-2:] for line in trained] == [
        ['alone', 'seed0'],
        ['kfmsd', 'seed0'],
        ['alone', 'seed1'],
    ]
    found = results(suite, tmp_path)
    assert [(run['row'], run['seed']) for run in found] == [
        ('alone', 0), ('kfmsd', 0), ('alone', 1)
    ]  # fmt: skip
    assert '± ' in text and '77.5' in text and 'branch3' in text and 'branch4' not in text
    assert (tmp_path / 'results.md').read_text().strip() == text
    assert json.loads((tmp_path / 'results.json').read_text())[0]['seed'] == 0
    assert reproduce(suite, tmp_path) == text
    assert 'training' not in capsys.readouterr().out


class FakeProcess:
    """A training that takes longer than any budget."""

    def __init__(self, calls):
        self.calls = calls

    def wait(self, timeout=None):
        self.calls.append(timeout)
        if len(self.calls) == 1:
            raise subprocess.TimeoutExpired('train', timeout)

    def send_signal(self, number):
        self.calls.append(number)


def test_the_end_of_a_budget_lets_a_run_save_its_state_and_starts_no_other(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        'mmkdfuse.sweeps.reproduction.subprocess.Popen', lambda *_, **__: FakeProcess(calls)
    )
    now = iter([0.0, 0.0, 10.0, 60.0, 60.0])
    monkeypatch.setattr('mmkdfuse.sweeps.reproduction.time.monotonic', lambda: next(now))
    reproduce(suite_of(), tmp_path, budget=1)
    assert calls[:2] == [50.0, signal.SIGTERM] and len(calls) == 3


def test_a_run_that_fails_is_named_and_stops_no_other(tmp_path, capsys):
    rows = (Row('bad', 'quickstart/baseline_digits.py', options={'model.gama': 1}),)
    reproduce(Suite('Bad', rows), tmp_path)
    assert 'bad/seed0: failed, see' in capsys.readouterr().err
    assert 'no such argument' in (tmp_path / 'bad' / 'seed0' / 'output.log').read_text()


@pytest.mark.parametrize('path', SUITES, ids=lambda path: path.stem)
def test_suites_name_configs_whose_changes_fit(path):
    suite = read_suite(path.stem)
    assert suite.rows
    for row in suite.rows:
        cfg = load_config(config_root() / row.config, row.options)
        assert cfg.model.type
        for value in row.options.values():
            if isinstance(value, str) and '{work_dir}' in value:
                folder = value.format(work_dir='X').split('/')
                assert folder[:2] == ['X', folder[1]] and folder[1] in [r.name for r in suite.rows]


def test_mistakes_in_a_suite_are_named(tmp_path):
    path = tmp_path / 'suite.yml'
    with pytest.raises(FileNotFoundError, match='is no file and none of .*gpu_cifar100'):
        read_suite('no_such')
    path.write_text('title: x\nrows:\n- {name: a, conf: b}\n')
    with pytest.raises(ValueError, match=r'row 1: keys .* expected name, config'):
        read_suite(path)
    path.write_text('title: x\nrows:\n- {name: a, config: b}\n- {name: a, config: c}\n')
    with pytest.raises(ValueError, match="the name 'a' occurs twice"):
        read_suite(path)
    with pytest.raises(ValueError, match='budget=-1 must be a number of minutes'):
        reproduce(Suite('x', ()), tmp_path, budget=-1)


def test_a_table_without_runs_shows_the_paper(tmp_path):
    assert '| 77.5 |' in table(suite_of(), tmp_path)
