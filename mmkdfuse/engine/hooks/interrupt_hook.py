"""Ctrl-C and SIGTERM end a run with a state from which it can go on."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import torch
from mmengine.dist import is_distributed, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmkdfuse.engine.hooks.checkpoint_hook import INTERRUPTED, atomic_backend_args, write_pointer
from mmkdfuse.registry import HOOKS

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@HOOKS.register_module()
class InterruptHook(Hook):
    """Hook that ends a run on SIGINT (Ctrl-C) or SIGTERM with the checkpoint ``interrupted.pth``.

    The iteration is finished first. The exit status is 128 plus the signal's number: 130 or 143. A
    second signal ends the process at once. A signal during validation takes effect when the
    validation is over. With gradient accumulation the accumulated step is completed first. In a
    distributed run one process that got a signal stops all of them at the same iteration. The
    processes exchange signals every ``interval`` updates of the weights, at the end of every epoch
    and after every validation. The previous handlers are put back when the training ends. Outside
    the main thread, where Python allows no handlers, signals act as before.

    Args:
        interval: Updates of the weights after which the processes of a distributed run exchange
            signals, at least 1. One process alone stops at once.

    Raises:
        ValueError: ``interval`` is not a positive integer.
        SystemExit: From the training loop, after a signal.

    Example:
        >>> InterruptHook(interval=20).interval
        20
    """

    # After the checkpoint hook: the best checkpoint of an interrupted validation is saved first.
    priority = 'LOWEST'

    def __init__(self, interval: int = 10) -> None:
        if not isinstance(interval, int) or interval < 1:
            raise ValueError(f'InterruptHook interval={interval!r}, expected an integer >= 1')
        self.interval = interval
        self._updates = 0  # since the processes exchanged signals
        self._signal = 0
        self._handlers: dict[int, Any] = {}
        self._process = 0
        self._group: Any = None

    def before_train(self, runner: Runner) -> None:
        """Take over the signals."""
        self._signal = self._updates = 0
        if is_distributed():
            dist = torch.distributed
            # Over the CPU: asking all processes must not wait for the GPU's queue.
            gloo = dist.get_backend() == 'gloo'
            self._group = dist.group.WORLD if gloo else dist.new_group(backend='gloo')
        if threading.current_thread() is threading.main_thread():
            self._process = os.getpid()
            self._handlers = {number: signal.signal(number, self._receive) for number in _SIGNALS}

    def train_stopped(self, runner: Runner) -> None:
        """Put the previous handlers back, however the training ended."""
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._handlers.items():
                # None: the handler was not set from Python and cannot be put back by it.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._handlers = {}
        self._group = None

    def after_train(self, runner: Runner) -> None:
        """Put the previous handlers back under loops without the stage ``train_stopped``."""
        self.train_stopped(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Stop here if a signal came, unless gradients wait for the next iteration."""
        updated = getattr(runner.optim_wrapper, 'should_update', None)
        if updated is not None and not updated():
            return
        self._updates += 1
        if self._group is None:
            due = bool(self._signal)
        else:
            # The same in all processes, whichever got a signal.
            due = self._updates >= self.interval or self.end_of_epoch(
                runner.train_dataloader, batch_idx
            )
        if due:
            self._stop_if_asked(runner, iterations=runner.iter + 1)

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        """Stop after the validation if a signal came."""
        if self._signal or self._group is not None:
            self._stop_if_asked(runner, iterations=runner.iter)

    def _receive(self, number: int, frame: Any) -> None:
        if os.getpid() != self._process:  # a forked data worker: the main process decides
            return
        if self._signal:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._signal = number
        # os.write: the signal may have come in the middle of a print or log call.
        after = 'this iteration' if self._group is None else f'at most {self.interval} iterations'
        text = f'\n{signal.Signals(number).name}: stopping after {after}; again: at once\n'
        os.write(2, text.encode())

    def _stop_if_asked(self, runner: Runner, iterations: int) -> None:
        number = self._signal
        self._updates = 0
        if self._group is not None:
            asked = torch.tensor([number])
            torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX, group=self._group)
            number = int(asked)
        if not number:
            return
        runner.call_hook('before_interrupt')
        runner.save_checkpoint(
            runner.work_dir,
            INTERRUPTED,
            meta={'epoch': runner.epoch, 'iter': iterations},
            by_epoch=False,
            save_param_scheduler=runner.param_schedulers is not None,
            backend_args=atomic_backend_args(runner.work_dir),
        )
        if is_main_process():
            path = os.path.join(runner.work_dir, INTERRUPTED)
            write_pointer(runner, path)
            runner.logger.warning(
                f'Stopped by {signal.Signals(number).name} after {iterations} iterations, state in '
                f"'{path}': run the same command with --resume to go on."
            )
        raise SystemExit(128 + number)
