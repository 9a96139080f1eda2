"""A method from outside, one module and one config, does all that one of the package does."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import mmkdfuse
from mmkdfuse.checkpoint import load_file
from mmkdfuse.deploy import deploy
from mmkdfuse.engine.config_check import check_config

CONFIGS = Path(__file__).parent.glob('methods/*_config.py')
METHODS = sorted(path.stem.removesuffix('_config') for path in CONFIGS)


@pytest.fixture(params=METHODS)
def run(request, run_of):
    """Two epochs of every method."""
    return run_of(request.param)


def test_its_config_passes_the_check(run):
    assert check_config(Config.fromfile(run.config)) == []


def test_a_resumed_run_is_the_uninterrupted_one(run, tmp_path):
    arguments = dict(work_dir=tmp_path, preflight=False, cfg_options=run.options)
    metrics = mmkdfuse.train(run.config, resume=str(run.work_dir / 'epoch_1.pth'), **arguments)
    assert metrics == run.metrics
    found, expected = (load_file(path / 'epoch_2.pth') for path in (tmp_path, run.work_dir))
    assert set(found) == set(expected)
    for part in {'state_dict', 'optimizer', 'memories'} & set(expected):
        torch.testing.assert_close(found[part], expected[part], rtol=0, atol=0)


def test_it_is_tested_and_deployed_without_the_teachers_file(run, tmp_path):
    options = {**run.options, 'model.teacher.checkpoint': str(tmp_path / 'gone.pth')}
    checkpoint = run.work_dir / 'epoch_2.pth'
    metrics = mmkdfuse.test(run.config, checkpoint, work_dir=tmp_path, cfg_options=options)
    assert metrics == run.metrics
    model = mmkdfuse.load(run.config, checkpoint, cfg_options=options)
    network = deploy(run.config, checkpoint, out=tmp_path, seconds=0, cfg_options=options).model
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected, found = model(images), network(images)
    expected = expected[-1] if isinstance(expected, tuple) else expected
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert type(network).__module__.startswith('mmpretrain.')
