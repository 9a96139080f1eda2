import os
import signal
import threading

import pytest
import torch
from mmengine.hooks import Hook
from toy_training import ActAt, assert_same_state, build_runner, state_of

from mmkdfuse.engine import InterruptHook


def send(number):
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize('number, status', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize('iteration', [1, 7, 10])
def test_saves_exits_and_resumes_exactly(tmp_path, number, status, iteration):
    full = build_runner(tmp_path / 'a', 3)
    full.train()
    stopped = build_runner(tmp_path / 'b', 3, hooks=[ActAt(iteration, send(number))])
    handler = signal.getsignal(number)
    with pytest.raises(SystemExit) as error:
        stopped.train()
    assert error.value.code == status
    assert signal.getsignal(number) is handler
    saved = tmp_path / 'b' / 'interrupted.pth'
    assert (tmp_path / 'b' / 'last_checkpoint').read_text() == str(saved)
    assert torch.load(saved, weights_only=True)['meta']['iter'] == iteration
    resumed = build_runner(tmp_path / 'b', 3, resume=True)
    resumed.train()
    assert_same_state(state_of(full), state_of(resumed))
    assert len(resumed.train_dataloader.dataset.loaded) == 60 - 4 * iteration
    assert not saved.exists()  # the next regular checkpoint took its place


def test_in_validation_it_waits_for_the_end(tmp_path):
    checkpoint = {'save_best': 'main/top1', 'interval': 3}
    full = build_runner(tmp_path / 'a', 3, checkpoint)
    full.train()
    stopped = build_runner(tmp_path / 'b', 3, checkpoint)
    metric = stopped._val_evaluator.metrics[0]
    process = metric.process
    metric.process = lambda *args: (
        (send(signal.SIGTERM)() if not metric.results else None) or (process(*args))
    )
    with pytest.raises(SystemExit) as error:
        stopped.train()
    assert error.value.code == 143
    saved = torch.load(tmp_path / 'b' / 'interrupted.pth', weights_only=True)
    assert (saved['meta']['epoch'], saved['meta']['iter']) == (1, 5)
    assert saved['message_hub']['runtime_info']['best_ckpt'] == 'best_main_top1_epoch_1.pth'
    resumed = build_runner(tmp_path / 'b', 3, checkpoint, resume=True)
    resumed.train()
    assert_same_state(state_of(full), state_of(resumed))
    best = [run.message_hub.get_info('best_score') for run in (full, resumed)]
    assert best[0] == best[1]


def test_accumulated_step_is_completed_first(tmp_path):
    wrapper = {'accumulative_counts': 3, 'optimizer': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9}}
    full = build_runner(tmp_path / 'a', 1, optim_wrapper=wrapper)
    full.train()
    hook = ActAt(1, send(signal.SIGTERM))
    with pytest.raises(SystemExit):
        build_runner(tmp_path / 'b', 1, hooks=[hook], optim_wrapper=wrapper).train()
    saved = torch.load(tmp_path / 'b' / 'interrupted.pth', weights_only=True)
    assert saved['meta']['iter'] == 3
    resumed = build_runner(tmp_path / 'b', 1, optim_wrapper=wrapper, resume=True)
    resumed.train()
    assert_same_state(state_of(full), state_of(resumed))


def test_bad_loss_is_not_saved_by_an_interruption(tmp_path):
    runner = build_runner(tmp_path, 1, hooks=[ActAt(2, send(signal.SIGTERM))])
    runner.model.bad_term = {2: float('nan')}
    with pytest.raises(RuntimeError, match='iteration 2'):
        runner.train()
    assert not (tmp_path / 'interrupted.pth').exists()


def test_handlers_are_restored_after_a_run_and_after_an_error(tmp_path):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    build_runner(tmp_path / 'a', 1).train()
    assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]

    def fail():
        raise ValueError('on purpose')

    with pytest.raises(ValueError, match='on purpose'):
        build_runner(tmp_path / 'b', 1, hooks=[ActAt(2, fail)]).train()
    assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]


def test_outside_the_main_thread_signals_are_left_alone(tmp_path):
    handler = signal.getsignal(signal.SIGTERM)
    seen = []
    hook = ActAt(2, lambda: seen.append(signal.getsignal(signal.SIGTERM)))
    runner = build_runner(tmp_path, 1, hooks=[hook])
    thread = threading.Thread(target=runner.train)
    thread.start()
    thread.join()
    assert seen == [handler]
    assert runner.iter == 5


class FakeGroup:
    """Stands for the processes of a run; another one got a signal."""

    def __init__(self, monkeypatch, signals):
        self.asked, self.signals = 0, list(signals)
        monkeypatch.setattr(torch.distributed, 'all_reduce', self.all_reduce)

    def all_reduce(self, value, op, group):
        assert group is self and op == torch.distributed.ReduceOp.MAX
        self.asked += 1
        value.fill_(self.signals.pop(0))


class Join(Hook):
    """Lets the interrupt hook believe that it has company."""

    priority = 'LOWEST'

    def __init__(self, group):
        self.group = group

    def before_train_epoch(self, runner):
        (hook,) = (hook for hook in runner.hooks if isinstance(hook, InterruptHook))
        hook._group = self.group


@pytest.mark.parametrize('accumulative_counts, asked', [(1, 6), (2, 4)])
def test_processes_ask_each_other_at_the_interval_and_after_epochs(
    tmp_path, monkeypatch, accumulative_counts, asked
):
    # Epochs of ten iterations. Every four updates and at the end: iterations 4, 8, 10; or 8, 10.
    group = FakeGroup(monkeypatch, [0] * 20)
    hooks = {'interrupt': {'type': 'InterruptHook', 'interval': 4}}
    wrapper = {
        'accumulative_counts': accumulative_counts,
        'optimizer': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9},
    }
    build_runner(
        tmp_path,
        2,
        samples=40,
        hooks=[Join(group)],
        default_hooks=hooks,
        optim_wrapper=wrapper,
        validate=False,
    ).train()
    assert group.asked == asked


def test_a_signal_to_another_process_stops_this_one_where_all_ask(tmp_path, monkeypatch):
    group = FakeGroup(monkeypatch, [0, signal.SIGTERM])
    hooks = {'interrupt': {'type': 'InterruptHook', 'interval': 4}}
    full = build_runner(tmp_path / 'a', 2, samples=40)
    full.train()
    stopped = build_runner(tmp_path / 'b', 2, samples=40, hooks=[Join(group)], default_hooks=hooks)
    with pytest.raises(SystemExit) as error:
        stopped.train()
    assert error.value.code == 143
    saved = torch.load(tmp_path / 'b' / 'interrupted.pth', weights_only=True)
    assert saved['meta']['iter'] == 8
    resumed = build_runner(tmp_path / 'b', 2, samples=40, resume=True)
    resumed.train()
    assert_same_state(state_of(full), state_of(resumed))


@pytest.mark.parametrize('interval', [0, -1, 1.5, None])
def test_bad_interval(interval):
    with pytest.raises(ValueError, match='expected an integer >= 1'):
        InterruptHook(interval=interval)
