"""Train, resume, test: what a validation reports is what the checkpoint gives."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch

import mmkdfuse
from mmkdfuse.checkpoint import load_file
from mmkdfuse.version import __version__

ROOT = Path(__file__).resolve().parents[2]
BASELINE = ROOT / 'configs' / 'quickstart' / 'baseline_digits.py'
HEADS = ('branch1', 'branch2', 'branch3', 'branch4', 'main', 'ensemble')


def state_of(checkpoint):
    return load_file(checkpoint)['state_dict']


def assert_same_weights(first, second):
    torch.testing.assert_close(state_of(first), state_of(second), rtol=0, atol=0)


def test_training_leaves_metrics_and_checkpoints(trained):
    record = json.loads((trained.work_dir / 'metrics.json').read_text())
    assert record['metrics'] == trained.metrics
    assert set(trained.metrics) == {f'{head}/top{k}' for head in HEADS for k in (1, 5)}
    assert all(0 <= value <= 100 for value in trained.metrics.values())
    assert (record['seed'], record['epochs'], record['processes']) == (0, 2, 1)
    assert record['best'] >= trained.metrics['main/top1']
    assert record['seconds'] > 0
    assert record['versions']['mmkdfuse'] == __version__
    names = {path.name for path in trained.work_dir.glob('*.pth')}
    assert {'epoch_1.pth', 'epoch_2.pth'} < names
    assert any(name.startswith('best_main_top1_epoch_') for name in names)


def test_every_term_is_logged_under_its_name(trained):
    (log,) = trained.work_dir.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    logged = set().union(*lines)
    terms = {f'loss_ce_{head}' for head in ('branch1', 'branch2', 'branch3', 'main')}
    assert terms | {'loss_mutual_kl', 'loss_feature', 'loss', 'lr', *trained.metrics} <= logged


def test_the_last_checkpoint_scores_what_validation_reported(tmp_path, trained):
    found = mmkdfuse.test(
        trained.config, trained.checkpoint, work_dir=tmp_path, cfg_options=trained.options
    )
    assert found == trained.metrics


def test_resuming_in_the_middle_ends_with_the_same_weights(tmp_path, trained):
    metrics = mmkdfuse.train(
        trained.config,
        work_dir=tmp_path,
        resume=str(trained.work_dir / 'epoch_1.pth'),
        preflight=False,
        cfg_options=trained.options,
    )
    assert metrics == trained.metrics
    assert_same_weights(tmp_path / 'epoch_2.pth', trained.checkpoint)


def test_a_finished_run_can_go_on(tmp_path, trained):
    """The first two epochs are not repeated, and the original's files stay."""
    copy = tmp_path / 'copy'
    shutil.copytree(trained.work_dir, copy)
    before = {path: path.stat().st_mtime_ns for path in trained.work_dir.rglob('*')}
    options = {**trained.options, 'train_cfg.max_epochs': 3}
    mmkdfuse.train(trained.config, work_dir=copy, resume=True, preflight=False, cfg_options=options)
    assert load_file(copy / 'epoch_3.pth')['meta']['iter'] == 3 * 4
    assert json.loads((copy / 'metrics.json').read_text())['epochs'] == 3
    assert_same_weights(copy / 'epoch_2.pth', trained.checkpoint)
    assert {path: path.stat().st_mtime_ns for path in trained.work_dir.rglob('*')} == before


def test_resuming_a_finished_run_returns_its_metrics(tmp_path, trained):
    copy = tmp_path / 'copy'
    shutil.copytree(trained.work_dir, copy)
    arguments = dict(work_dir=copy, resume=True, preflight=False, cfg_options=trained.options)
    assert mmkdfuse.train(trained.config, **arguments) == trained.metrics
    assert_same_weights(copy / 'epoch_2.pth', trained.checkpoint)


def test_the_network_alone_goes_the_same_way(tmp_path, capsys, tiny_options):
    """And a resume in an empty folder starts from the beginning."""
    options = {**tiny_options, 'train_cfg.max_epochs': 1}
    metrics = mmkdfuse.train(BASELINE, work_dir=tmp_path, resume=True, cfg_options=options)
    output = capsys.readouterr().out
    assert 'holds no checkpoint, training starts from the beginning' in output
    assert 'Preflight passed' in output
    assert set(metrics) == {'accuracy/top1', 'accuracy/top5'}
    checkpoint = tmp_path / 'epoch_1.pth'
    assert mmkdfuse.test(BASELINE, checkpoint, work_dir=tmp_path, cfg_options=options) == metrics


def run_tool(monkeypatch, name, *arguments):
    """Run a tool with the function behind it replaced; return the call."""
    calls = []
    monkeypatch.setattr(
        mmkdfuse, name, lambda *args, **kwargs: calls.append((args, kwargs)), raising=False
    )
    monkeypatch.setattr(sys, 'argv', [f'{name}.py', *arguments])
    runpy.run_path(str(ROOT / 'tools' / f'{name}.py'), run_name='__main__')
    (call,) = calls
    return call


def test_arguments_of_the_training_tool(monkeypatch):
    plain = dict(
        work_dir=None,
        resume=False,
        amp=False,
        validate=True,
        preflight=True,
        auto_scale_lr=False,
        launcher='none',
        cfg_options=None,
    )
    assert run_tool(monkeypatch, 'train', 'c.py') == (('c.py',), plain)
    everything = ('c.py', '--work-dir', 'w', '--amp', '--no-validate', '--no-preflight')
    everything += ('--auto-scale-lr', '--launcher', 'pytorch', '--local-rank', '1', '--resume')
    everything += ('--cfg-options', 'model.gamma=0.5', 'a.b=[1,2]')
    assert run_tool(monkeypatch, 'train', *everything)[1] == dict(
        work_dir='w',
        resume=True,
        amp=True,
        validate=False,
        preflight=False,
        auto_scale_lr=True,
        launcher='pytorch',
        cfg_options={'model.gamma': 0.5, 'a.b': [1, 2]},
    )
    assert run_tool(monkeypatch, 'train', 'c.py', '--resume', 'x.pth')[1]['resume'] == 'x.pth'


def test_arguments_of_the_test_tool(monkeypatch):
    arguments = ('c.py', 'x.pth', '--out', 'o.json', '--out-item', 'metrics', '--work-dir', 'w')
    assert run_tool(monkeypatch, 'test', *arguments, '--cfg-options', 'a=1') == (
        ('c.py', 'x.pth'),
        dict(
            work_dir='w',
            out='o.json',
            out_item='metrics',
            preflight=True,
            launcher='none',
            cfg_options={'a': 1},
        ),
    )


@pytest.mark.parametrize('tool', ['train', 'test', 'compare'])
def test_tools_explain_themselves(monkeypatch, capsys, tool):
    monkeypatch.setattr(sys, 'argv', [f'{tool}.py', '--help'])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / 'tools' / f'{tool}.py'), run_name='__main__')
    assert stop.value.code == 0 and '--cfg-options' in capsys.readouterr().out
