import os

import pytest
import torch
from toy_training import build_runner

from mmkdfuse.engine import InvalidLossHook


def train_with(tmp_path, bad, **kwargs):
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


@pytest.mark.parametrize('interval, logged, stops', [(4, 100, 12), (50, 100, 20), (50, 3, 12)])
def test_terms_are_read_at_the_interval_where_logged_and_after_an_epoch(
    tmp_path, interval, logged, stops
):
    # Epochs of 20 iterations; the bad one is the eleventh.
    hooks = {
        'invalid_loss': {'type': 'InvalidLossHook', 'interval': interval},
        'logger': {'type': 'LoggerHook', 'interval': logged},
    }
    runner, message = train_with(
        tmp_path, {11: float('inf')}, samples=80, validate=False, default_hooks=hooks
    )
    assert "iteration 11 in epoch 1: loss term 'loss_x' is inf" in message
    assert runner.model.steps == stops


@pytest.mark.parametrize(
    'logged, bad, message',
    [
        (lambda step: step >= 3, 4, "iteration 4 in epoch 1: loss term 'loss_some' is NaN"),
        (lambda step: step % 3 == 0, 3, "in epoch 1: loss term 'loss_some' is NaN"),
    ],
    ids=['from the third on', 'every third'],
)
def test_a_term_that_is_not_logged_every_time_is_named(tmp_path, logged, bad, message):
    runner = build_runner(tmp_path)
    forward = runner.model.forward

    def with_some_term(inputs, labels, mode='tensor'):
        terms = forward(inputs, labels, mode)
        step = runner.model.steps
        if mode == 'loss' and logged(step):
            terms['loss_some'] = terms['loss_ce'] * (float('nan') if step == bad else 1)
        return terms

    runner.model.forward = with_some_term
    with pytest.raises(RuntimeError, match=message):
        runner.train()


def test_states_that_are_no_weights_are_saved(tmp_path):
    class Masked(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer('mask', torch.tensor([0.0, float('-inf')]))

        def get_extra_state(self):
            return {'calls': 3}

        def set_extra_state(self, state):
            pass

    runner = build_runner(tmp_path, 1)
    runner.model.masked = Masked()
    runner.train()
    assert (tmp_path / 'epoch_1.pth').exists()


def test_after_a_resume_only_new_iterations_are_read(tmp_path):
    build_runner(tmp_path, 1).train()
    runner = build_runner(tmp_path, 2, resume=True)
    runner.model.bad_term = {2: float('nan')}  # of this process
    with pytest.raises(RuntimeError, match="iteration 7 in epoch 2: loss term 'loss_x' is NaN"):
        runner.train()


def test_it_needs_the_recorded_terms(tmp_path):
    runner = build_runner(tmp_path, default_hooks={'runtime_info': None})
    with pytest.raises(ValueError, match='finds no RuntimeInfoHook'):
        runner.train()


@pytest.mark.parametrize('interval', [0, -1, 1.5, None])
def test_bad_interval(interval):
    with pytest.raises(ValueError, match='expected an integer >= 1'):
        InvalidLossHook(interval=interval)
