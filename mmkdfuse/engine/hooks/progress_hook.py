"""One line on the terminal that says how far the run is."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from datetime import timedelta
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmkdfuse.registry import HOOKS

_CLEAR = '\r\x1b[K'


@HOOKS.register_module()
class ProgressHook(Hook):
    """Line on the terminal with epoch, iteration, loss, images per second and time left.

    It overwrites itself. It is silent unless standard error is a terminal, and on other processes
    than the first. The loss is read from the device only when the line is drawn. The time left
    covers the whole run, with validation and saving at the rate seen so far.

    Args:
        interval: Seconds between two updates, more than 0.

    Raises:
        ValueError: ``interval`` is not positive.

    Example:
        >>> ProgressHook(interval=2.0).interval
        2.0
    """

    priority = 'LOWEST'

    def __init__(self, interval: float = 1.0) -> None:
        if not interval > 0:
            raise ValueError(f'ProgressHook interval={interval!r}, expected seconds > 0')
        self.interval = interval
        self._shown = False
        self._filtered: list[logging.Handler] = []
        self._active = False

    def before_train(self, runner: Runner) -> None:
        """Start the clock; make log lines clear the progress line first."""
        self._active = is_main_process() and sys.stderr.isatty()
        if not self._active:
            return
        self._start, self._start_iter = time.monotonic(), runner.iter
        for handler in runner.logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(self._clear)
                self._filtered.append(handler)

    def before_train_epoch(self, runner: Runner) -> None:
        """Leave validation and saving out of the speed."""
        self._drawn, self._images = time.monotonic(), 0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Draw the line if it is due."""
        if not self._active:
            return
        self._images += _batch_size(data_batch) * get_world_size()
        now = time.monotonic()
        if now - self._drawn < self.interval:
            return
        done = runner.iter + 1
        rest = (now - self._start) / (done - self._start_iter) * (runner.max_iters - done)
        parts = [
            f'epoch {runner.epoch + 1}/{runner.max_epochs}',
            f'iteration {batch_idx + 1}/{len(runner.train_dataloader)}',
            f'{self._images / (now - self._drawn):.0f} images/s',
            f'{timedelta(seconds=round(rest))} left',
        ]
        if outputs and 'loss' in outputs:
            parts.insert(2, f'loss {float(torch.as_tensor(outputs["loss"]).detach()):.4f}')
        line = '  '.join(parts)[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write(_CLEAR + line)
        sys.stderr.flush()
        self._shown = True
        self._drawn, self._images = now, 0

    def after_train_epoch(self, runner: Runner) -> None:
        """Validation is not training: no line meanwhile."""
        self._clear()

    def train_stopped(self, runner: Runner) -> None:
        """Leave the terminal clean, however the training ended."""
        self._clear()
        for handler in self._filtered:
            handler.removeFilter(self._clear)
        self._filtered = []
        self._active = False

    def after_train(self, runner: Runner) -> None:
        """Clean up under loops without the stage ``train_stopped``."""
        self.train_stopped(runner)

    def _clear(self, record: logging.LogRecord | None = None) -> bool:
        """Remove the line from the terminal; True lets a log record pass."""
        if self._shown:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()
            self._shown = False
        return True


def _batch_size(data_batch: Any) -> int:
    inputs = data_batch.get('inputs', ()) if isinstance(data_batch, dict) else data_batch
    return len(inputs) if hasattr(inputs, '__len__') else 0
