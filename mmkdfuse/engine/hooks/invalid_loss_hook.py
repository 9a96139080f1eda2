"""A loss that is NaN or infinite ends the run before anything is saved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from mmengine.hooks import CheckpointHook, Hook, LoggerHook, RuntimeInfoHook
from mmengine.logging import MessageHub
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from mmkdfuse.registry import HOOKS

_NEVER = 2**62
_PREFIX = 'train/'


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Hook that stops training at the first loss term that is not finite.

    The terms are the entries of the model's log variables with "loss" in their name. Reading them
    waits for the device. So they are read every ``interval`` iterations, where a log line reads
    them anyway, and before every checkpoint and every stop. Training goes on for fewer than
    ``interval`` iterations after a bad one, and nothing is saved after it. The error names the
    first bad iteration, its terms and its learning rate. In a distributed run all processes stop
    together. Weights that are not finite are refused, too.

    Args:
        interval: Iterations between two readings, at least 1.

    Raises:
        ValueError: ``interval`` is not a positive integer, or the run has no ``RuntimeInfoHook``,
            which records the terms.
        RuntimeError: From the training loop; names iteration, epoch, terms and learning rate.

    Example:
        >>> InvalidLossHook(interval=100).interval
        100
    """

    # After the timer, so that the wait for the device is no part of an iteration's time; before a
    # log line shows bad terms, learning rates change or anything is saved.
    priority = 55

    def __init__(self, interval: int = 50) -> None:
        if not isinstance(interval, int) or interval < 1:
            raise ValueError(f'InvalidLossHook interval={interval!r}, expected an integer >= 1')
        self.interval = interval
        self._unread = 0
        self._loggers: list[LoggerHook] = []
        self._savers: list[CheckpointHook] = []
        self._meant: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Forget an earlier run."""
        if not any(isinstance(hook, RuntimeInfoHook) for hook in runner.hooks):
            raise ValueError(
                'InvalidLossHook finds no RuntimeInfoHook, which records the terms of the loss: '
                'keep default_hooks.runtime_info or remove default_hooks.invalid_loss'
            )
        self._unread = 0
        self._loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        savers = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
        self._savers = [hook for hook in savers if not hook.by_epoch]
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        # Such as a mask of -inf.
        self._meant = set(_not_finite(dict(model.named_buffers())))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Read the terms if it is due."""
        self._unread += 1
        if (
            self.every_n_train_iters(runner, self.interval)
            or self._is_logged_now(batch_idx)
            or self._is_saved_now(runner)
        ):
            self._read(runner, together=True)

    def after_train_epoch(self, runner: Runner) -> None:
        """Read before the epoch's checkpoint."""
        self._read(runner, together=True)

    def before_interrupt(self, runner: Runner) -> None:
        """Read before the state of an interrupted run is saved."""
        self._read(runner, together=True)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to save after a bad step, also if it shows in the weights only."""
        self._read(runner)
        bad = [n for n in _not_finite(checkpoint['state_dict']) if n not in self._meant]
        if bad:
            iteration = checkpoint['meta']['iter']
            rate = _learning_rate(runner)
            raise RuntimeError(
                f'training stopped at iteration {iteration}: {len(bad)} weights or statistics are '
                f'NaN or infinite, the first is {bad[0]} (learning rate {rate:g}); '
                + _advice(runner)
            )

    def _is_logged_now(self, batch_idx: int) -> bool:
        """Whether a log line shows this iteration, for which the terms are read anyway."""
        return any(hook.every_n_inner_iters(batch_idx, hook.interval) for hook in self._loggers)

    def _is_saved_now(self, runner: Runner) -> bool:
        """Whether a checkpoint hook that counts iterations saves after this one."""
        return any(
            hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
            or (hook.save_last and hook.is_last_train_iter(runner))
            for hook in self._savers
        )

    def _read(self, runner: Runner, together: bool = False) -> None:
        """Raise if a term was bad; ``together``: in any process of a distributed run."""
        hub = runner.message_hub
        newest = hub.get_info('iter', 0)
        bad = _first_bad(hub, self._unread, newest)
        worst = torch.tensor(min((first for first, _ in bad.values()), default=_NEVER))
        if together:
            all_reduce(worst, 'min')
        self._unread = 0
        iteration = int(worst)
        if iteration == _NEVER:
            return
        terms = {name: value for name, (first, value) in bad.items() if first == iteration}
        if list(terms) == ['loss']:
            # It was a term that is not logged every time and cannot be dated.
            length = {name: len(hub.log_scalars[_PREFIX + name].data[0]) for name in bad}
            rare = {n: value for n, (_, value) in bad.items() if length[n] < length['loss']}
            terms |= rare
        if len(terms) > 1:
            terms.pop('loss', None)  # the sum of the others
        shown = ', '.join(f"'{k}' is {'NaN' if math.isnan(v) else v}" for k, v in terms.items())
        epoch = hub.get_info('epoch', 0)
        rate = _learning_rate(runner, back=newest - iteration)
        raise RuntimeError(
            f'training stopped at iteration {iteration + 1} in epoch {epoch + 1}: loss term '
            f'{shown or "in another process is not finite"} (learning rate {rate:g}); '
            + _advice(runner)
        )


def _not_finite(state_dict: Mapping[str, Any]) -> list[str]:
    """Names of the tensors with a value that is NaN or infinite."""
    return [
        name
        for name, value in state_dict.items()
        if isinstance(value, Tensor)
        and value.is_floating_point()
        and not torch.isfinite(value).all()
    ]


def _first_bad(hub: MessageHub, unread: int, newest: int) -> dict[str, tuple[int, float]]:
    """First iteration and value of every term that was not finite in the last ``unread``.

    Args:
        hub: Holds the histories of the terms.
        unread: Number of latest iterations to look at.
        newest: Number of the last of them, counted from 0.
    """
    bad = {}
    for key, history in hub.log_scalars.items() if unread else ():
        if key.startswith(_PREFIX) and 'loss' in key:
            values = history.data[0][-unread:]
            places = np.flatnonzero(~np.isfinite(values))
            if len(places):
                # Counted from the end: a term may be newer than the first of these iterations.
                first = newest - (len(values) - 1 - int(places[0]))
                bad[key.removeprefix(_PREFIX)] = first, float(values[places[0]])
    return bad


def _learning_rate(runner: Runner, back: int = 0) -> float:
    """Learning rate of the newest iteration, or of one ``back`` iterations before it."""
    name, rates = next(iter(runner.optim_wrapper.get_lr().items()))
    history = runner.message_hub.log_scalars.get(_PREFIX + name)
    return rates[0] if history is None else float(history.data[0][-1 - back])


def _advice(runner: Runner) -> str:
    last = runner.message_hub.get_info('last_ckpt')
    kept = f"the last good checkpoint is '{last}'" if last else 'no checkpoint was saved yet'
    return f'{kept}; lower optim_wrapper.optimizer.lr, add a warm-up or clip_grad, check the data'
