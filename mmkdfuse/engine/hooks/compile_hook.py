"""The network and the terms of its loss, compiled for training."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmkdfuse.registry import HOOKS


@HOOKS.register_module()
class CompileHook(Hook):
    """Runs the training forward and backward pass of a model by ``torch.compile``.

    ``compile=True`` in a config, or a dict of arguments, adds this hook. Where mmengine compiles
    the whole training step, which includes the preprocessor's arithmetic in Python integers, here
    it is the model's ``forward``. Names in checkpoints stay as they are. Validation, whose
    predictions are Python objects, runs uncompiled.

    Args:
        **options: Of ``torch.compile``, such as ``mode`` or ``backend``.
    """

    # Before the other hooks run the model.
    priority = 'VERY_HIGH'

    def __init__(self, **options: Any) -> None:
        self.options = options

    def before_train(self, runner: Runner) -> None:
        """Compile in place; the work is done in the first iterations."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.compile(**self.options)
        runner.logger.info('The model is compiled: the first iterations take longer.')

    def before_val(self, runner: Runner) -> None:
        """Run uncompiled."""
        torch.compiler.set_stance('force_eager')

    def after_val(self, runner: Runner) -> None:
        """Run compiled again."""
        torch.compiler.set_stance('default')

    def train_stopped(self, runner: Runner) -> None:
        """Leave compilation as it was, also where a validation failed."""
        torch.compiler.set_stance('default')
