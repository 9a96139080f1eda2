"""Scoring of teachers before training."""

from __future__ import annotations

import time
from typing import Any

import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmkdfuse.engine.loss_context import unwrapped
from mmkdfuse.models.classifiers.predictions import targets_of
from mmkdfuse.models.classifiers.trainable import Trainable
from mmkdfuse.registry import HOOKS
from mmkdfuse.structures import MAIN, TapKeys


def chance_level(num_classes: int) -> float:
    """Accuracy, from 0 to 1, up to which a classifier is taken for one that guesses.

    Twice that of guessing, 2 / K; below five classes a quarter of the way from 1 / K to 1, because
    2 / K is out of reach there.

    Args:
        num_classes: K, at least 1.
    """
    guessing = 1 / num_classes
    return guessing + min(guessing, (1 - guessing) / 4)


@HOOKS.register_module()
class VerifyTeacherHook(Hook):
    """Hook that scores every teacher on the validation set before training and logs its accuracy.

    A teacher that guesses has weights of another network or order of classes, or was trained with
    another normalisation. Nothing is scored after a resume, with ``verify_teacher=False`` of the
    model, and without a validation set. It always checks that the weights from which training goes
    on belong to the teachers.

    Raises:
        RuntimeError: From the training loop, if a teacher's accuracy is not above
            :func:`chance_level`.

    Example:
        >>> VerifyTeacherHook().priority
        'NORMAL'
        >>> chance_level(100)
        0.02
    """

    def before_train(self, runner: Runner) -> None:
        """Score the teachers."""
        model: Any = unwrapped(runner.model)
        if not isinstance(model, Trainable) or not model.teachers:
            return
        teachers = model.teachers
        model.check_teachers()
        if not model.verify_teacher or runner.iter > 0:
            return
        if runner.val_loop is None:
            runner.logger.info('The teachers are not verified: there is no validation set.')
            return
        start = time.monotonic()
        accuracies = self._accuracies(runner, model)
        seconds = time.monotonic() - start
        for teacher, accuracy in zip(teachers, accuracies, strict=True):
            percent = f'{100 * accuracy:.2f} %'
            runner.logger.info(f'teacher {teacher.name}: {percent} ({seconds:.0f} s)')
        level = chance_level(model.num_classes)
        for teacher, accuracy in zip(teachers, accuracies, strict=True):
            if accuracy <= level:
                raise RuntimeError(
                    f'teacher {teacher.name!r} from {str(teacher.checkpoint)!r} has an accuracy of '
                    f'{100 * accuracy:.2f} % on the validation set, expected more than '
                    f'{100 * level:.2f} % (guessing): give weights of this dataset, trained with '
                    'this data_preprocessor, or set model.verify_teacher=False.'
                )

    @torch.no_grad()
    def _accuracies(self, runner: Runner, model: Any) -> list[float]:
        """Accuracy of every teacher, each process scoring its share."""
        loader = runner.val_dataloader
        batches = []
        for raw in loader:
            batch = model.data_preprocessor(raw, False)
            labels = targets_of(batch['data_samples'])
            if labels.ndim > 1:  # batch augmentations make all labels soft
                labels = labels.argmax(dim=1)
            main = TapKeys(logits=(MAIN,))
            logits = [teacher(batch['inputs'], main).logits for teacher in model.teachers]
            batches.append(torch.stack([each.argmax(dim=1) == labels for each in logits], dim=1))
        # Samplers fill the shares up to equal lengths, at their end.
        share = len(range(get_rank(), len(loader.dataset), get_world_size()))
        hits = torch.cat(batches)[:share].long()
        counts = torch.cat([hits.sum(dim=0), hits.new_full((1,), len(hits))])
        all_reduce(counts)
        *found, images = counts.tolist()
        return [number / images for number in found]
