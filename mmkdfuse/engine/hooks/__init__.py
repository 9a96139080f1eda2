"""Hooks of a training run: saving, stopping, logging."""

from mmkdfuse.engine.hooks.checkpoint_hook import CheckpointHook
from mmkdfuse.engine.hooks.compile_hook import CompileHook
from mmkdfuse.engine.hooks.interrupt_hook import InterruptHook
from mmkdfuse.engine.hooks.invalid_loss_hook import InvalidLossHook
from mmkdfuse.engine.hooks.loss_context_hook import LossContextHook
from mmkdfuse.engine.hooks.loss_scale_hook import LossScaleHook
from mmkdfuse.engine.hooks.progress_hook import ProgressHook
from mmkdfuse.engine.hooks.runtime_info_hook import RuntimeInfoHook
from mmkdfuse.engine.hooks.verify_teacher_hook import VerifyTeacherHook

__all__ = [
    'CheckpointHook',
    'CompileHook',
    'InterruptHook',
    'InvalidLossHook',
    'LossContextHook',
    'LossScaleHook',
    'ProgressHook',
    'RuntimeInfoHook',
    'VerifyTeacherHook',
]
