"""A run that is stopped, killed or extended ends with the weights of one that was not."""

import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook

ROOT = Path(__file__).parents[2]
TOY = ROOT / 'tests' / 'engine' / 'hooks' / 'toy_training.py'
sys.path.insert(0, str(TOY.parent))

from toy_training import EVERY_ITERATION, ActAt, assert_same_state, build_runner, state_of  # noqa: E402

from mmkdfuse.engine.train_loop import seed_step  # noqa: E402


def start(*args, **variables):
    paths = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    environment = {**os.environ, 'PYTHONPATH': paths, 'OMP_NUM_THREADS': '1', **variables}
    return subprocess.Popen(
        [sys.executable, str(TOY), *map(str, args)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*args):
    process = start(*args)
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


def finish_two(*args):
    """Run two processes that train together."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    group = {'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port}
    ranks = [start(*args, RANK=rank, LOCAL_RANK=rank, **group) for rank in '01']
    outputs = [rank.communicate(timeout=600)[0] for rank in ranks]
    return [rank.returncode for rank in ranks], '\n'.join(outputs)


def train(folder, epochs, **kwargs):
    runner = build_runner(folder, epochs, **kwargs)
    runner.train()
    return runner


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """As many as the processes started here: with others sums differ in the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    """State after four epochs without a stop."""
    return state_of(train(tmp_path_factory.mktemp('full'), 4))


def resumed_state(folder, **kwargs):
    return state_of(train(folder, 4, resume=True, **kwargs))


class StopAfterEpoch(Hook):
    """Ends the training, configured for more epochs, as a crash at an epoch boundary would."""

    priority = 'LOWEST'

    def __init__(self, epoch):
        self.epoch = epoch

    def after_val_epoch(self, runner, metrics=None):
        if runner.epoch == self.epoch:
            raise KeyboardInterrupt


class StopBeforeValidation(Hook):
    def before_val(self, runner):
        raise KeyboardInterrupt


def test_two_and_two_epochs_equal_four(tmp_path, uninterrupted):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, 4, hooks=[StopAfterEpoch(2)])
    assert_same_state(uninterrupted, resumed_state(tmp_path))


def test_validation_does_not_change_training(tmp_path, uninterrupted):
    assert_same_state(uninterrupted, state_of(train(tmp_path, 4, validate=False)))


def test_extended_run_says_what_happens_to_the_schedule(tmp_path):
    train(tmp_path, 2)
    runner = build_runner(tmp_path, 4, resume=True)
    messages = record_warnings(runner)
    runner.train()
    assert [m for m in messages if 'max_epochs=2, this run has max_epochs=4' in m]
    assert runner.iter == 20


def record_warnings(runner):
    messages = []
    warning = runner.logger.warning
    runner.logger.warning = lambda text: (messages.append(text), warning(text))
    return messages


def test_seed_of_the_checkpoint_is_used(tmp_path):
    full = train(tmp_path / 'a', 2, seed=None)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / 'b', 2, seed=full.seed, hooks=[StopAfterEpoch(1)])
    resumed = train(tmp_path / 'b', 2, seed=None, resume=True)
    assert_same_state(state_of(full), state_of(resumed))


def test_checkpoint_of_an_iteration_resumes_in_the_epoch(tmp_path, uninterrupted):
    checkpoint = {'by_epoch': False, 'interval': 4}

    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(tmp_path, 4, checkpoint=checkpoint, hooks=[ActAt(10, fail)])
    assert (tmp_path / 'last_checkpoint').read_text().endswith('iter_8.pth')
    assert_same_state(uninterrupted, resumed_state(tmp_path, checkpoint=checkpoint))


def test_other_epoch_length_is_announced(tmp_path):
    checkpoint = {'by_epoch': False, 'interval': 8, 'save_last': False}
    train(tmp_path, 2, checkpoint=checkpoint)
    runner = build_runner(tmp_path, 2, checkpoint=checkpoint, resume=True, samples=28)
    messages = record_warnings(runner)
    runner.train()
    assert '5 batches per epoch, this run has 7' in messages[-1]
    assert 'epoch 2 starts from its first batch' in messages[-1]
    assert runner.iter == 8 + 7


def test_missed_validation_is_made_up(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, 2, hooks=[StopBeforeValidation()])
    resumed = train(tmp_path, 2, resume=True)
    assert len(resumed.message_hub.get_scalar('val/main/top1').data[0]) == 2


@pytest.mark.parametrize('name, status', [('SIGTERM', 143), ('SIGINT', 130)])
def test_signal_to_a_process(tmp_path, uninterrupted, name, status):
    code, output = finish(tmp_path, '--signal', name, 8)
    assert code == status, output
    assert f'Stopped by {name} after 8 iterations' in output and '--resume' in output
    assert 'Traceback' not in output
    assert_same_state(uninterrupted, resumed_state(tmp_path))


@pytest.mark.parametrize('function, call', [('fsync', 1), ('fsync', 13), ('replace', 14)])
def test_kill_during_a_save(tmp_path, uninterrupted, function, call):
    """Killed with half a file on the disk (fsync), or before it takes its name (replace)."""
    code, output = finish(tmp_path, '--every-iteration', '--kill-in', function, call)
    assert code == -9, output
    assert_same_state(uninterrupted, resumed_state(tmp_path, checkpoint=EVERY_ITERATION))
    assert 'iter_20.pth' in os.listdir(tmp_path)
    leftovers = [name for name in os.listdir(tmp_path) if name.endswith('.tmp')]
    assert not leftovers


def test_kill_at_any_time(tmp_path):
    process = start(tmp_path, '--every-iteration', '--epochs', 100000)
    deadline = time.time() + 300
    while not (tmp_path / 'last_checkpoint').exists() and time.time() < deadline:
        time.sleep(0.05)
    time.sleep(random.random())
    process.kill()
    process.communicate()
    last = Path((tmp_path / 'last_checkpoint').read_text())
    iterations = torch.load(last, weights_only=True)['meta']['iter']
    epochs = iterations // 5 + 1
    train(tmp_path, epochs, resume=True, checkpoint=EVERY_ITERATION)
    assert (tmp_path / f'iter_{5 * epochs}.pth').exists()


@pytest.mark.slow
def test_signal_to_one_of_two_processes(tmp_path):
    full, stopped = tmp_path / 'full', tmp_path / 'stopped'
    codes, output = finish_two(full, '--epochs', 2)
    assert codes == [0, 0], output
    # Only the second process gets the signal; three batches per epoch each.
    codes, output = finish_two(stopped, '--epochs', 2, '--signal', 'SIGTERM', 4)
    assert codes == [143, 143], output
    assert torch.load(stopped / 'interrupted.pth', weights_only=True)['meta']['iter'] == 4
    codes, output = finish_two(stopped, '--epochs', 2, '--resume')
    assert codes == [0, 0], output
    a, b = (torch.load(d / 'epoch_2.pth', weights_only=True) for d in (full, stopped))
    torch.testing.assert_close(a['state_dict'], b['state_dict'], rtol=0, atol=0)
    assert a['meta']['iter'] == b['meta']['iter'] == 6


def test_seed_step_depends_on_all_four_and_on_nothing_else():
    def draws(*key):
        seed_step(*key)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    base = draws(1, 2, 3, 4)
    torch.rand(7)
    assert draws(1, 2, 3, 4) == base
    others = [draws(*key) for key in [(0, 2, 3, 4), (1, 0, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0)]]
    for values in zip(base, *others, strict=True):
        assert len(set(values)) == 5
