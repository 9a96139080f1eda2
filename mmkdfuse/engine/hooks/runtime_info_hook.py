"""Log values of every iteration, recorded without waiting for the device."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import RuntimeInfoHook as MMEngineRuntimeInfoHook
from mmengine.runner import Runner
from torch import Tensor

from mmkdfuse.engine.deferred_scalars import DeferredHistory, DeferredScalars, defer_history
from mmkdfuse.registry import HOOKS


@HOOKS.register_module()
class RuntimeInfoHook(MMEngineRuntimeInfoHook):
    """mmengine's hook of the same name, with the terms of the loss left on the device.

    mmengine reads every term in every iteration, and each reading waits until a GPU has finished
    all its queued work. Here the terms stay where they are until a log line, a checkpoint or any
    other reader of the message hub reads them. Keys, values and order are the same, so that log
    lines smooth the same window, ``log_processor.window_size``, of the latest iterations.

    ``mmengine.RuntimeInfoHook`` remains the original.

    Example:
        >>> from mmkdfuse.registry import HOOKS
        >>> type(HOOKS.build(dict(type='mmkdfuse.RuntimeInfoHook'))).__name__
        'RuntimeInfoHook'
    """

    def before_train(self, runner: Runner) -> None:
        """Take over the histories of a resumed run."""
        super().before_train(runner)
        self._scalars = DeferredScalars(runner.message_hub)
        self._known = 0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Record the model's log variables."""
        tensors = {}
        for name, value in (outputs or {}).items():
            if isinstance(value, Tensor):
                tensors[f'train/{name}'] = value
            else:
                runner.message_hub.update_scalar(f'train/{name}', value)
        self._scalars.add(tensors)
        hub = runner.message_hub
        if len(hub.log_scalars) != self._known:
            # Let histories that others write grow in constant time, too.
            for key, history in list(hub.log_scalars.items()):
                if key.startswith('train/') and not isinstance(history, DeferredHistory):
                    defer_history(hub, key)
            self._known = len(hub.log_scalars)
