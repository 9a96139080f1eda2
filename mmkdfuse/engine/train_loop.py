"""The epoch loop whose randomness and position survive an interruption."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmengine.runner import EpochBasedTrainLoop
from torch import nn
from torch.utils.data import DataLoader

from mmkdfuse.registry import LOOPS


def seed_step(seed: int, epoch: int, batch: int, rank: int) -> int:
    """Seed Python, numpy and torch (CPU and GPU) for one training step.

    The random numbers of a step are a function of these four numbers only: neither validation nor
    an interruption before the step can change them.

    Args:
        seed: Seed of the run.
        epoch: Epoch, counted from 0.
        batch: Batch in the epoch, counted from 0.
        rank: Rank of the process, so that processes draw different dropout masks.

    Returns:
        The seed used, an integer below 2^63.
    """
    text = f'{seed} {epoch} {batch} {rank}'
    step_seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), 'big') >> 1
    random.seed(step_seed)
    np.random.seed(step_seed % 2**32)
    # torch.manual_seed takes 0.2 ms to look for every kind of accelerator.
    torch.default_generator.manual_seed(step_seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(step_seed)
    return step_seed


@LOOPS.register_module()
class ResumableEpochTrainLoop(EpochBasedTrainLoop):
    """mmengine's epoch loop, resumable at any batch with the result of an uninterrupted run.

    - Every step is seeded by ``seed_step``, hence no random state needs to be saved.
    - The number of batches done in the epoch is kept in the message hub, which checkpoints hold.
      After a resume in the middle of an epoch the remaining batches are trained. The others are
      skipped by their indices, without being loaded.
    - A validation that was due and not recorded in the checkpoint runs first.

    Exact for data whose augmentation is drawn on the training device or from the sample's index.
    Random transforms inside worker processes restart with the epoch's seed after a resume in the
    middle of an epoch. Gradients that wait for ``accumulative_counts`` are not saved at the end of
    an epoch.

    When it ends, by an error too, the custom hook stage ``train_stopped`` is called.
    The arguments are those of ``EpochBasedTrainLoop``.

    Example:
        >>> from mmkdfuse.registry import LOOPS
        >>> LOOPS.get('mmkdfuse.ResumableEpochTrainLoop') is ResumableEpochTrainLoop
        True
    """

    def run(self) -> nn.Module:
        """Train until ``max_epochs``."""
        runner = self.runner
        start = self._resumed_batch()
        try:
            runner.call_hook('before_train')
            if start == 0 and self._iter > 0 and self._is_validation_missing():
                runner.logger.info(f'The validation after epoch {self._epoch} is run first.')
                runner.val_loop.run()
            while self._epoch < self._max_epochs and not self.stop_training:
                self._run_epoch_from(start)
                start = 0
                if self._is_validation_due():
                    runner.val_loop.run()
            runner.call_hook('after_train')
        finally:
            runner.call_hook('train_stopped')
        return runner.model

    def run_epoch(self) -> None:
        """Train one whole epoch."""
        self._run_epoch_from(0)

    def _run_epoch_from(self, start: int) -> None:
        runner = self.runner
        runner.message_hub.update_info('batches_per_epoch', len(self.dataloader))
        runner.call_hook('before_train_epoch')
        runner.model.train()
        batches = self._batches_from(start)
        for idx in range(start, len(self.dataloader)):
            # Before the batch is drawn: a dataset may use random numbers in this process.
            seed_step(runner.seed, self._epoch, idx, runner.rank)
            self.run_iter(idx, next(batches))
        runner.message_hub.update_info('batches_done', 0)
        runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Train on one batch."""
        # Hooks save checkpoints after the step of this batch, hence it counts as done there.
        self.runner.message_hub.update_info('batches_done', idx + 1)
        super().run_iter(idx, data_batch)

    def _batches_from(self, start: int) -> Iterator:
        """The batches of this epoch without the first ``start``, in the order of a whole epoch."""
        loader = self.dataloader
        seed = seed_step(self.runner.seed, self._epoch, 0, self.runner.rank)
        init = loader.worker_init_fn
        if isinstance(init, partial) and 'seed' in init.keywords:
            # mmengine seeds workers with the run's seed: the same draws in every epoch.
            loader.worker_init_fn = partial(init, seed=seed % 2**31)
        fetch = getattr(loader.dataset, '__getitems__', None)
        in_place = type(loader) is DataLoader and not (loader.num_workers or loader.pin_memory)
        if in_place and fetch is not None and loader.batch_sampler is not None:
            # What the loader does, without a dozen calls around every batch.
            positions = islice(loader.batch_sampler, start, None)
            return (loader.collate_fn(fetch(each)) for each in positions)
        if start == 0:
            return iter(loader)
        if loader.batch_sampler is None:
            return islice(iter(loader), start, None)
        remaining = DataLoader(
            loader.dataset,
            batch_sampler=list(islice(iter(loader.batch_sampler), start, None)),
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
            generator=loader.generator,
            prefetch_factor=loader.prefetch_factor,
        )
        return iter(remaining)

    def _resumed_batch(self) -> int:
        """Batches already trained in the current epoch; warns where a resume cannot be exact."""
        if self._iter == 0:
            return 0
        runner, hub = self.runner, self.runner.message_hub
        sampler = getattr(self.dataloader, 'sampler', None)
        if (
            sampler is not None
            and hasattr(sampler, 'seed')
            and not runner._randomness_cfg.get('diff_rank_seed')
        ):
            # Without a seed in the config the sampler was built before the checkpoint's was known.
            sampler.seed = runner.seed
        planned = hub.get_info('max_epochs', self._max_epochs)
        if planned != self._max_epochs:
            runner.logger.warning(
                f'The checkpoint was trained for max_epochs={planned}, this run has '
                f'max_epochs={self._max_epochs}: the learning-rate schedule keeps the shape stored '
                'in the checkpoint; to train with a new schedule give the file as load_from, '
                'without resume.'
            )
        batches = len(self.dataloader)
        stored = hub.get_info('batches_per_epoch', batches)
        done = hub.get_info('batches_done', 0)
        if stored != batches:
            runner.logger.warning(
                f'The checkpoint was trained with {stored} batches per epoch, this run has '
                f'{batches} (other data, batch size or number of processes): it will differ from '
                'an uninterrupted run'
                + (f', and epoch {self._epoch + 1} starts from its first batch.' if done else '.')
            )
            return 0
        return done

    def _is_validation_due(self) -> bool:
        self._decide_current_val_interval()
        return (
            self.runner.val_loop is not None
            and self._epoch >= self.val_begin
            and (self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs)
        )

    def _is_validation_missing(self) -> bool:
        validated = self.runner.message_hub.get_info('last_validated_epoch', 0)
        return validated < self._epoch and self._is_validation_due()
