import os

import pytest
import torch
from toy_training import build_runner

from mmkdfuse.engine import InvalidLossHook


def train_with(tmp_path, bad, hook=None, **kwargs):
    runner = build_runner(tmp_path, **kwargs)
    runner.model.bad_term = bad
    with pytest.raises(RuntimeError) as error:
        runner.train()
    return runner, str(error.value)


@pytest.mark.parametrize('value, shown', [(float('nan'), 'NaN'), (float('inf'), 'inf')])
def test_names_iteration_epoch_term_and_learning_rate(tmp_path, value, shown):
    runner, message = train_with(tmp_path, {8: value})
    # Learning rate of iteration 8: 0.1, halved at epoch 1, warm-up over after 6 steps.
    assert (
        f"at iteration 8 in epoch 2: loss term 'loss_x' is {shown} (learning rate 0.05)" in message
    )
    assert "'loss'" not in message and 'loss_ce' not in message
    assert message.count('\n') == 0
    last = str(tmp_path / 'epoch_1.pth')
    assert last in message
    assert (tmp_path / 'last_checkpoint').read_text() == last
    assert sorted(f for f in os.listdir(tmp_path) if f.endswith('.pth')) == ['epoch_1.pth']
    saved = torch.load(last, weights_only=True)
    assert all(torch.isfinite(v).all() for v in saved['state_dict'].values())


def test_nothing_is_saved_at_the_bad_iteration(tmp_path):
    checkpoint = {'by_epoch': False, 'interval': 1}
    _, message = train_with(tmp_path, {3: float('nan')}, checkpoint=checkpoint)
    assert 'iteration 3' in message
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_2.pth')
    assert not (tmp_path / 'iter_3.pth').exists()


def test_weights_ruined_by_a_finite_loss_are_not_saved(tmp_path):
    runner = build_runner(tmp_path, 2)
    runner.model.head.bias.register_hook(
        lambda grad: grad * float('nan') if runner.model.steps == 10 else grad
    )
    with pytest.raises(RuntimeError, match=r'at iteration 10: .*head\.bias.*learning rate 0\.05'):
        runner.train()
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_1.pth')
    assert not (tmp_path / 'epoch_2.pth').exists()


class FakeRunner:
    """Enough of a runner to step through iterations by hand."""

    hooks = ()
    epoch = 0
    max_iters = 100

    def __init__(self):
        self.iter = 0
        self.optim_wrapper = self
        self.message_hub = self

    def get_lr(self):
        return {'lr': [0.1 / (self.iter + 1)]}

    def get_info(self, key):
        return 'epoch_7.pth'


def test_on_a_device_terms_are_read_at_the_interval_only(monkeypatch):
    hook, runner = InvalidLossHook(interval=4), FakeRunner()
    monkeypatch.setattr(hook, '_record', lambda *a, record=hook._record: record(*a) and False)
    values = [1.0, float('inf'), float('nan'), 1.0]
    for iteration, value in enumerate(values):
        runner.iter = iteration
        outputs = {'loss': torch.tensor(value), 'loss_a': torch.tensor(value), 'acc': 'unused'}
        if iteration < 3:
            hook.after_train_iter(runner, iteration, outputs=outputs)
        else:
            with pytest.raises(RuntimeError, match='iteration 2 in epoch 1') as error:
                hook.after_train_iter(runner, iteration, outputs=outputs)
    assert "'loss_a' is inf (learning rate 0.05)" in str(error.value)


def test_terms_that_change_are_read_before_they_are_forgotten(monkeypatch):
    hook, runner = InvalidLossHook(interval=50), FakeRunner()
    monkeypatch.setattr(hook, '_record', lambda *a, record=hook._record: record(*a) and False)
    hook.after_train_iter(runner, 0, outputs={'loss_a': torch.tensor(float('nan'))})
    runner.iter = 1
    with pytest.raises(RuntimeError, match="iteration 1 .*'loss_a' is NaN"):
        hook.after_train_iter(runner, 1, outputs={'loss_b': torch.tensor(1.0)})


@pytest.mark.parametrize('interval', [0, -1, 1.5, None])
def test_bad_interval(interval):
    with pytest.raises(ValueError, match='expected an integer >= 1'):
        InvalidLossHook(interval=interval)
