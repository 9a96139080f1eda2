"""Hooks of a training run: what is saved, when it stops, what is shown."""

from .checkpoint_hook import CheckpointHook
from .interrupt_hook import InterruptHook
from .invalid_loss_hook import InvalidLossHook
from .progress_hook import ProgressHook

__all__ = ['CheckpointHook', 'InterruptHook', 'InvalidLossHook', 'ProgressHook']
