"""Runs of several configs and seeds: what is trained, what is left alone, the table."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from mmkdfuse.engine import compare as module
from mmkdfuse.engine.compare import compare, table

ROOT = Path(__file__).resolve().parents[2]
BASELINE = str(ROOT / 'configs' / 'quickstart' / 'baseline_digits.py')
KFMSD = str(ROOT / 'configs' / 'quickstart' / 'kfmsd_digits.py')
HEADS = ('branch1', 'branch2', 'branch3', 'branch4', 'main', 'ensemble')


def write_run(folder, metrics, seconds=90.0):
    folder.mkdir(parents=True, exist_ok=True)
    record = dict(metrics=metrics, seconds=seconds, seed=0)
    (folder / 'metrics.json').write_text(json.dumps(record))


def kfmsd_metrics(first):
    return {f'{head}/top1': first + step for step, head in enumerate(HEADS)}


@pytest.fixture
def calls(monkeypatch):
    """The arguments of every training, which ends at once."""
    made = []

    def train(config, work_dir, resume, cfg_options):
        made.append((Path(config).stem, Path(work_dir), resume, dict(cfg_options)))
        name = 'accuracy/top1' if 'baseline' in str(config) else 'main/top1'
        write_run(Path(work_dir), {name: 90.0 + cfg_options['randomness.seed']})

    monkeypatch.setattr(module, 'train', train)
    return made


def test_table_of_two_configs_and_three_seeds(tmp_path):
    for seed, (plain, branches) in enumerate([(70.0, 80.0), (71.0, 82.0), (72.0, 84.0)]):
        metrics = {'accuracy/top1': plain, 'accuracy/top5': 99.0}
        write_run(tmp_path / 'baseline' / f'seed{seed}', metrics, seconds=60 * (seed + 1))
        write_run(tmp_path / 'kfmsd' / f'seed{seed}', kfmsd_metrics(branches), seconds=30)
    assert table([tmp_path / 'baseline', tmp_path / 'kfmsd']).splitlines() == [
        '| top-1 accuracy, % | branch1 | branch2 | branch3 | main | ensemble | seeds |'
        ' minutes per run |',
        '|---|---:|---:|---:|---:|---:|---:|---:|',
        '| baseline |  |  |  | 71.00 ± 1.00 |  | 3 | 2.0 |',
        '| kfmsd | 82.00 ± 2.00 | 83.00 ± 2.00 | 84.00 ± 2.00 | 86.00 ± 2.00 | 87.00 ± 2.00 | 3 |'
        ' 0.5 |',
    ]


def test_one_seed_has_no_deviation_and_a_single_network_one_column(tmp_path):
    write_run(tmp_path / 'alone' / 'seed0', {'accuracy/top1': 71.234})
    assert table([tmp_path / 'alone']).splitlines()[2] == '| alone | 71.23 | 1 | 1.5 |'


def test_a_folder_without_finished_runs_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='holds no finished run'):
        table([tmp_path])


def test_every_config_is_trained_with_every_seed(tmp_path, calls):
    options = {'train_cfg.max_epochs': 2}
    text = compare([BASELINE, KFMSD], tmp_path, seeds=(0, 3), cfg_options=options)
    assert [(name, run.relative_to(tmp_path).as_posix()) for name, run, *_ in calls] == [
        ('baseline_digits', 'baseline_digits/seed0'),
        ('baseline_digits', 'baseline_digits/seed3'),
        ('kfmsd_digits', 'kfmsd_digits/seed0'),
        ('kfmsd_digits', 'kfmsd_digits/seed3'),
    ]
    assert [resume for *_, resume, _ in calls] == [False] * 4
    assert [changes['randomness.seed'] for *_, changes in calls] == [0, 3, 0, 3]
    assert all(changes['train_cfg.max_epochs'] == 2 for *_, changes in calls)
    assert options == {'train_cfg.max_epochs': 2}
    rows = text.splitlines()[2:]
    assert [row.split(' | ')[0] for row in rows] == ['| baseline_digits', '| kfmsd_digits']
    assert all('91.50 ± 2.12' in row for row in rows)


def test_finished_runs_are_left_alone_and_new_seeds_added(tmp_path, calls):
    first = compare([BASELINE], tmp_path, seeds=(0,))
    assert compare([BASELINE], tmp_path, seeds=(0,)) == first
    assert len(calls) == 1
    compare([BASELINE], tmp_path, seeds=(0, 1))
    assert [run.name for _, run, *_ in calls] == ['seed0', 'seed1']


def test_interrupted_runs_go_on(tmp_path, calls, monkeypatch):
    def interrupted(config, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, 'train', interrupted)
        with pytest.raises(KeyboardInterrupt):
            compare([BASELINE], tmp_path)
    compare([BASELINE], tmp_path)
    assert [resume for *_, resume, _ in calls] == [True]


@pytest.mark.parametrize('finished', [True, False])
def test_a_changed_config_is_refused(tmp_path, calls, finished):
    compare([BASELINE], tmp_path)
    if not finished:
        (tmp_path / 'baseline_digits' / 'seed0' / 'metrics.json').unlink()
    with pytest.raises(ValueError, match='seed0 holds a run of a different config'):
        compare([BASELINE], tmp_path, cfg_options={'optim_wrapper.optimizer.lr': 0.2})
    assert len(calls) == 1


def test_metrics_of_an_unknown_config_are_not_taken_for_finished(tmp_path, calls):
    write_run(tmp_path / 'baseline_digits' / 'seed0', {'accuracy/top1': 1.0})
    compare([BASELINE], tmp_path)
    assert [resume for *_, resume, _ in calls] == [True]


def test_replaced_parts_of_the_config_are_replaced_in_every_run(tmp_path, calls):
    backbone = dict(_delete_=True, arch='resnet18', base_channels=4)
    compare([KFMSD], tmp_path, seeds=(0, 1), cfg_options={'model.backbone': backbone})
    assert [changes['model.backbone'] for *_, changes in calls] == [backbone] * 2
    assert backbone.get('_delete_') is True


def test_configs_of_one_name_get_folders_of_their_own(tmp_path, calls):
    configs = [
        str(ROOT / 'configs' / kind / 'resnet18_cifar10.py') for kind in ('baseline', 'kfmsd')
    ]
    compare(configs, tmp_path)
    folders = [run.parent.name for _, run, *_ in calls]
    assert folders == ['baseline_resnet18_cifar10', 'kfmsd_resnet18_cifar10']


def test_one_config_given_twice_is_refused(tmp_path, calls):
    with pytest.raises(ValueError, match='two have the same name'):
        compare([BASELINE, BASELINE], tmp_path)
    assert calls == []


def test_the_tool_prints_the_table_of_folders(tmp_path, monkeypatch, capsys):
    write_run(tmp_path / 'alone' / 'seed0', {'accuracy/top1': 50.0})
    monkeypatch.setattr(sys, 'argv', ['compare.py', str(tmp_path / 'alone'), '--table'])
    runpy.run_path(str(ROOT / 'tools' / 'compare.py'), run_name='__main__')
    assert capsys.readouterr().out.splitlines()[-1] == '| alone | 50.00 | 1 | 1.5 |'
