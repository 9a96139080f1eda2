"""Hooks of a training run: what is saved, when it stops, what is shown."""

from mmkdfuse.engine.hooks.checkpoint_hook import CheckpointHook
from mmkdfuse.engine.hooks.interrupt_hook import InterruptHook
from mmkdfuse.engine.hooks.invalid_loss_hook import InvalidLossHook
from mmkdfuse.engine.hooks.progress_hook import ProgressHook

__all__ = ['CheckpointHook', 'InterruptHook', 'InvalidLossHook', 'ProgressHook']
