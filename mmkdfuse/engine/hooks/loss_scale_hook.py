"""Reports on the pull of the terms of a loss at the network, beside weight decay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmkdfuse.analysis.loss_scale import LossScale, measure_loss_scale, untouched
from mmkdfuse.engine.loss_context import unwrapped
from mmkdfuse.models.classifiers.predictions import targets_of
from mmkdfuse.models.classifiers.trainable import Trainable
from mmkdfuse.models.probe import evaluation
from mmkdfuse.registry import HOOKS


@HOOKS.register_module()
class LossScaleHook(Hook):
    """Hook that logs the size of every term's gradient on the backbone, beside weight decay's.

    A term whose gradient lies far below weight decay's teaches nothing: the weights shrink faster
    than they learn. One line a report, and a warning, once, that names the term and the factor of
    its weight that would bring it level. Beside it stands the unexplained variance of aligned maps
    on the training and the validation batch, where a loss tells it.

    A report runs one batch forward and every term backward once. It leaves weights, buffers,
    memories and random numbers as they were, so that training is the same with and without it.

    Args:
        shares: Shares of training after which a report is made, each in (0, 1); the first epoch of
            a run always ends with one.

    Raises:
        ValueError: If a share is out of range.

    Example:
        >>> LossScaleHook(shares=(0.5,)).epochs(100)
        [1, 50]
    """

    def __init__(self, shares: tuple[float, ...] = (0.25, 0.5, 0.9)) -> None:
        if not all(0 < share < 1 for share in shares):
            raise ValueError(f'LossScaleHook: shares={shares!r} must lie in (0, 1).')
        self.shares = tuple(shares)
        self._warned = False
        self._batch: Any = None

    def epochs(self, max_epochs: int) -> list[int]:
        """Return the epochs, from 1, that end with a report."""
        return sorted({1, *(max(1, round(share * max_epochs)) for share in self.shares)})

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keep a batch of the epochs that end with a report."""
        if batch_idx == 0 and runner.epoch + 1 in self.epochs(runner.max_epochs or 1):
            self._batch = data_batch

    def after_train_epoch(self, runner: Runner) -> None:
        """Report."""
        model = unwrapped(runner.model)
        batch, self._batch = self._batch, None
        if batch is None or not isinstance(model, Trainable):
            return
        report = self._measure(runner, model, batch)
        runner.logger.info(f'loss scale after epoch {runner.epoch + 1}: {report}')
        warning = report.warning()
        if warning and not self._warned:
            runner.logger.warning(f'loss scale: {warning}.')
            self._warned = True

    def _measure(self, runner: Runner, model: Trainable, batch: Any) -> LossScale:
        decay = {}
        for group in runner.optim_wrapper.optimizer.param_groups:
            decay.update(dict.fromkeys(group['params'], group.get('weight_decay', 0.0)))
        weights = [p for p in model.backbone.parameters() if p.requires_grad and p in decay]
        memories = {name: tensor.clone() for name, tensor in model.memories().items()}
        with untouched(model):
            data = model.data_preprocessor(batch, True)
            terms = model(**data, mode='loss')
            report = measure_loss_scale(terms, weights, [decay[weight] for weight in weights])
        model.load_memories(memories)
        unexplained = {'training': self._unexplained(model, data)}
        loader = runner.val_dataloader if runner.val_loop is not None else None
        if loader is not None and unexplained['training'] is not None:
            data = model.data_preprocessor(next(iter(loader)), False)
            unexplained['validation'] = self._unexplained(model, data)
        known = {name: value for name, value in unexplained.items() if value is not None}
        return replace(report, unexplained=known)

    @torch.no_grad()
    def _unexplained(self, model: Trainable, data: dict) -> float | None:
        module: nn.Module = model
        with evaluation(module):
            targets = targets_of(data['data_samples'])
            step = model.step(data['inputs'], targets, data.get('indices'))
            found = model.diagnose(step)
        return float(found['unexplained']) if 'unexplained' in found else None
