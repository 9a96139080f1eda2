"""Two processes, started by the scripts, do what one does."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mmkdfuse

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


def run_script(name, *arguments):
    done = subprocess.run(
        ['bash', str(TOOLS / name), *map(str, arguments)],
        env={**os.environ, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def as_arguments(options):
    return ['--cfg-options', *(f'{key}={value}' for key, value in options.items())]


@pytest.mark.slow
def test_training_in_two_processes_saves_what_it_validated(tmp_path, trained):
    """51 test images: one process gets a padded share. Statistics of batch norm are shared."""
    options = as_arguments({**trained.options, 'log_level': 'INFO'})
    output = run_script('dist_train.sh', trained.config, 2, '--work-dir', tmp_path, *options)
    assert 'find_unused_parameters=False' in output
    assert output.count('Preflight passed') == 1
    assert 'batch size: 32 in 2 process(es)' in output
    record = json.loads((tmp_path / 'metrics.json').read_text())
    assert (record['processes'], record['epochs']) == (2, 2)
    checkpoint = tmp_path / 'epoch_2.pth'
    assert torch.load(checkpoint, weights_only=True)['meta']['iter'] == 2 * 2
    alone = mmkdfuse.test(
        trained.config, checkpoint, work_dir=tmp_path / 'alone', cfg_options=trained.options
    )
    assert record['metrics'] == alone


@pytest.mark.slow
def test_evaluation_in_two_processes_equals_that_in_one(tmp_path, trained):
    two, one = tmp_path / 'two.pkl', tmp_path / 'one.pkl'
    arguments = ('--work-dir', tmp_path / 'two', '--out', two)
    options = as_arguments(trained.options)
    run_script('dist_test.sh', trained.config, trained.checkpoint, 2, *arguments, *options)
    (log,) = (tmp_path / 'two').glob('*/*.json')
    metrics = json.loads(log.read_text().splitlines()[-1])
    assert {name: metrics[name] for name in trained.metrics} == trained.metrics

    mmkdfuse.test(
        trained.config,
        trained.checkpoint,
        work_dir=tmp_path / 'one',
        out=one,
        cfg_options=trained.options,
    )
    found, expected = (pickle.loads(path.read_bytes()) for path in (two, one))
    assert len(found) == len(expected) == 51
    for ours, reference in zip(found, expected, strict=True):
        assert torch.equal(ours['gt_label'], reference['gt_label'])
        assert torch.equal(ours['pred_label'], reference['pred_label'])
        torch.testing.assert_close(
            ours['branch_scores'], reference['branch_scores'], rtol=1e-5, atol=1e-6
        )
