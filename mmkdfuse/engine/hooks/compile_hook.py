"""The network and the terms of its loss, compiled for training."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmkdfuse.engine.loss_context import unwrapped
from mmkdfuse.registry import HOOKS


@HOOKS.register_module()
class CompileHook(Hook):
    """Hook that compiles the forward and backward pass of training by ``torch.compile``.

    ``compile=True`` in a config, or a dict of arguments, adds this hook. Where mmengine compiles
    the whole training step, which includes the preprocessor's arithmetic in Python integers, here
    it is the model's ``forward``. Names in checkpoints stay as they are. Validation
    and tests, whose predictions are Python objects, run uncompiled.

    Args:
        **options: Of ``torch.compile``, such as ``mode`` or ``backend``.

    Example:
        >>> CompileHook(mode='reduce-overhead').options
        {'mode': 'reduce-overhead'}
    """

    # Before the other hooks run the model.
    priority = 'VERY_HIGH'

    def __init__(self, **options: Any) -> None:
        self.options = options
        self._compiled = False
        self._eager: Any = None

    def before_train(self, runner: Runner) -> None:
        """Compile in place; the work is done in the first iterations."""
        model: Any = unwrapped(runner.model)
        model.compile(**self.options)
        self._compiled = True
        runner.logger.info('The model is compiled: the first iterations take longer.')

    def before_val(self, runner: Runner) -> None:
        """Run uncompiled."""
        self._run_again()
        if self._compiled:
            self._eager = torch.compiler.set_stance('force_eager')
            self._eager.__enter__()

    def after_val(self, runner: Runner) -> None:
        """Run compiled again."""
        self._run_again()

    before_test, after_test = before_val, after_val

    def train_stopped(self, runner: Runner) -> None:
        """Leave compilation as it was, also where a validation failed."""
        self._run_again()

    def _run_again(self) -> None:
        """Put back how compiled functions ran before."""
        if self._eager is not None:
            self._eager.__exit__(None, None, None)
            self._eager = None
