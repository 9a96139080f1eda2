"""Facts of a run that losses use: the training set, and their memories on resume."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import gather_object, get_rank, get_world_size
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmkdfuse.datasets.image_store import StoreDataset
from mmkdfuse.models.classifiers.trainable import Trainable
from mmkdfuse.structures import TrainingSet

MEMORIES = 'memories'


def unwrapped(model: nn.Module) -> Any:
    """Return the model inside a wrapper such as ``MMDistributedDataParallel``."""
    return model.module if is_model_wrapper(model) else model


def show_dataset(model: nn.Module, dataset: Any) -> None:
    """Show the training set to the losses of a model that read it.

    Args:
        model: Any model; only those of this package have such losses.
        dataset: The training dataset.
    """
    if isinstance(model, Trainable) and model.needs_dataset:
        model.see_dataset(training_set_of(dataset, model.num_classes))


def training_set_of(dataset: Any, num_classes: int) -> TrainingSet:
    """Return size and labels of a dataset.

    Args:
        dataset: Ours, mmengine's (``get_gt_labels``) or any other with a length.
        num_classes: K.
    """
    if isinstance(dataset, StoreDataset):
        return dataset.training_set()
    labels = None
    if hasattr(dataset, 'get_gt_labels'):  # mmpretrain's datasets
        labels = torch.as_tensor(dataset.get_gt_labels(), dtype=torch.int64)
    return TrainingSet(len(dataset), labels, num_classes)


def gather_memories(runner: Runner) -> list[dict] | None:
    """Collect the memories of all processes on the first one; None where there are none.

    All processes must call it.
    """
    model = unwrapped(runner.model)
    memories = model.memories() if isinstance(model, Trainable) else {}
    if not memories:
        return None
    own = {name: tensor.detach().cpu() for name, tensor in memories.items()}
    return [own] if get_world_size() == 1 else gather_object(own, dst=0)


def restore_memories(runner: Runner, checkpoint: dict) -> None:
    """Give the losses of this process the memories that a checkpoint holds for it."""
    model = unwrapped(runner.model)
    if not isinstance(model, Trainable) or not model.memories():
        return
    stored = checkpoint.get(MEMORIES)
    if not stored:
        runner.logger.warning(
            f"'{runner._load_from}' holds no memories of the losses: they start anew."
        )
        return
    if len(stored) != get_world_size():
        runner.logger.warning(
            f"'{runner._load_from}' holds the memories of {len(stored)} process(es), this run has "
            f'{get_world_size()}: it will differ from an uninterrupted run.'
        )
    model.load_memories(stored[get_rank() % len(stored)])
