"""Hook that tells the losses of a model the facts of the run."""

from __future__ import annotations

from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner

from mmkdfuse.engine.loss_context import show_dataset, unwrapped
from mmkdfuse.models.classifiers.trainable import Trainable
from mmkdfuse.registry import HOOKS


@HOOKS.register_module()
class LossContextHook(Hook):
    """Hook that shows the training set to the losses that read it, and tells all of them the epoch.

    Losses that need statistics of the teachers' outputs see them on the first training images, once
    in the life of a model: the measured values are saved with it. Every run of
    :func:`mmkdfuse.train` has this hook.

    Args:
        images: Number of training images that are seen for statistics, over all processes, >= 1.

    Attributes:
        begun: Whether an iteration has begun.

    Raises:
        ValueError: If ``images`` is out of range.

    Example:
        >>> LossContextHook().priority
        'VERY_HIGH'
    """

    # Before hooks that copy the model, such as EMAHook.
    priority = 'VERY_HIGH'

    def __init__(self, images: int = 10_000) -> None:
        if not isinstance(images, int) or images < 1:
            raise ValueError(f'LossContextHook: images={images!r} must be a positive integer.')
        self.images = images
        self.begun = False

    def before_run(self, runner: Runner) -> None:
        """Show the training set, before weights and memories are loaded."""
        if isinstance(runner._train_loop, BaseLoop):  # a config where nothing trains
            show_dataset(unwrapped(runner.model), runner.train_dataloader.dataset)

    def before_train(self, runner: Runner) -> None:
        """Show the teachers' outputs, once all weights are there."""
        model = unwrapped(runner.model)
        if not isinstance(model, Trainable) or not model.needs_observation:
            return
        seen = 0
        for raw in runner.train_dataloader:
            batch = model.data_preprocessor(raw, False)
            model.observe(batch['inputs'])
            seen += len(batch['inputs']) * get_world_size()
            if seen >= self.images:
                break
        model.conclude()
        runner.logger.info(f"The teachers' outputs were measured on {seen:,} training images.")

    def before_train_epoch(self, runner: Runner) -> None:
        """Tell the epoch."""
        self._tell(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Tell the epoch in loops that have none of their own."""
        self.begun = True
        if batch_idx == 0:
            self._tell(runner)

    @staticmethod
    def _tell(runner: Runner) -> None:
        model = unwrapped(runner.model)
        if isinstance(model, Trainable):
            model.set_progress(runner.epoch, runner.max_epochs or 0)
