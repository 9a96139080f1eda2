"""A loss that is NaN or infinite ends the run before anything is saved."""

from __future__ import annotations

import math
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from torch import Tensor

from mmkdfuse.registry import HOOKS

_NEVER = 2**62


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Stops training at the first loss term that is not finite.

    The terms are the entries of the model's log variables with "loss" in their name. On a CPU they
    are read in every iteration. On a GPU reading would wait for the device, so the first bad
    iteration is recorded there and read every ``interval`` iterations, and before every checkpoint
    and every stop: nothing is saved after a bad step. Weights that are not finite are refused, too.

    Args:
        interval: Iterations between two readings on a GPU, at least 1.

    Raises:
        ValueError: ``interval`` is not a positive integer.
        RuntimeError: From the training loop; names iteration, epoch, terms and learning rate.
    """

    # After the runtime information, before learning rates change and anything is saved.
    priority = 'ABOVE_NORMAL'

    def __init__(self, interval: int = 50) -> None:
        if not isinstance(interval, int) or interval < 1:
            raise ValueError(f'InvalidLossHook interval={interval!r}, expected an integer >= 1')
        self.interval = interval
        self._clear()

    def _clear(self) -> None:
        self._terms: list[str] = []
        self._first: Tensor | None = None  # per term: first bad iteration, or _NEVER
        self._value: Tensor | None = None  # per term: the value of that iteration
        self._steps: dict[int, tuple[int, float]] = {}  # iteration -> epoch, learning rate

    def before_train(self, runner: Runner) -> None:
        """Forget an earlier run."""
        self._clear()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Record the terms; read them where that costs nothing or is due."""
        terms = {
            name: torch.as_tensor(value).detach().float().reshape(())
            for name, value in (outputs or {}).items()
            if 'loss' in name
        }
        if list(terms) != self._terms:
            self._read(runner)
            self._terms = list(terms)
        on_cpu = True
        if terms:
            on_cpu = self._record(runner, torch.stack(list(terms.values())))
        if self.every_n_train_iters(runner, self.interval) or self._is_saved_now(runner):
            self._read(runner, together=True)
        elif on_cpu:
            self._read(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Read before the epoch's checkpoint."""
        self._read(runner, together=True)

    def before_interrupt(self, runner: Runner) -> None:
        """Read before the state of an interrupted run is saved."""
        self._read(runner, together=True)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to save after a bad step, also if it shows in the weights only."""
        self._read(runner)
        bad = [
            name
            for name, value in checkpoint['state_dict'].items()
            if value.is_floating_point() and not torch.isfinite(value).all()
        ]
        if bad:
            iteration = checkpoint['meta']['iter']
            rate = _learning_rate(runner)
            raise RuntimeError(
                f'training stopped at iteration {iteration}: {len(bad)} weights or statistics are '
                f'NaN or infinite, the first is {bad[0]} (learning rate {rate:g}); '
                + _advice(runner)
            )

    def _record(self, runner: Runner, values: Tensor) -> bool:
        """Note the first bad iteration of every term; True if that happened on the CPU."""
        if self._first is None or self._value is None:
            self._first = torch.full_like(values, _NEVER, dtype=torch.int64)
            self._value = torch.zeros_like(values)
        fresh = ~torch.isfinite(values) & (self._first == _NEVER)
        self._first = torch.where(fresh, runner.iter, self._first)
        self._value = torch.where(fresh, values, self._value)
        self._steps[runner.iter] = (runner.epoch, _learning_rate(runner))
        return values.device.type == 'cpu'

    def _read(self, runner: Runner, together: bool = False) -> None:
        """Raise if a recorded term was bad; ``together``: in any process of a distributed run."""
        if self._first is None or self._value is None:
            return
        worst = self._first.min()
        if together:
            all_reduce(worst, 'min')
        iteration = int(worst)
        if iteration == _NEVER:
            self._first = self._value = None
            self._steps.clear()
            return
        bad = {
            name: value
            for name, first, value in zip(
                self._terms, self._first.tolist(), self._value.tolist(), strict=True
            )
            if first == iteration
        }
        if len(bad) > 1:
            bad.pop('loss', None)  # the sum of the others
        terms = ', '.join(f"'{k}' is {'NaN' if math.isnan(v) else v}" for k, v in bad.items())
        epoch, rate = self._steps[iteration]
        raise RuntimeError(
            f'training stopped at iteration {iteration + 1} in epoch {epoch + 1}: loss term '
            f'{terms or "in another process is not finite"} (learning rate {rate:g}); '
            + _advice(runner)
        )

    def _is_saved_now(self, runner: Runner) -> bool:
        """Whether a checkpoint hook that counts iterations saves after this one."""
        return any(
            isinstance(hook, CheckpointHook)
            and not hook.by_epoch
            and (
                hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
                or (hook.save_last and hook.is_last_train_iter(runner))
            )
            for hook in runner.hooks
        )


def _learning_rate(runner: Runner) -> float:
    rates = runner.optim_wrapper.get_lr()
    return next(iter(rates.values()))[0]


def _advice(runner: Runner) -> str:
    last = runner.message_hub.get_info('last_ckpt')
    kept = f"the last good checkpoint is '{last}'" if last else 'no checkpoint was saved yet'
    return f'{kept}; lower optim_wrapper.optimizer.lr, add a warm-up or clip_grad, check the data'
