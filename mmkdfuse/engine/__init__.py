"""Running things: hooks, the training loop, mixed precision, launching.

Importing it registers the hooks, loops and optimizer wrappers, and makes every checkpoint that
mmengine loads go through the safe reader.
"""

from mmkdfuse.checkpoint_reader import register_safe_loaders
from mmkdfuse.engine.amp import BF16OptimWrapper, amp_optim_wrapper
from mmkdfuse.engine.hooks import (
    CheckpointHook,
    CompileHook,
    InterruptHook,
    InvalidLossHook,
    LossContextHook,
    LossScaleHook,
    ProgressHook,
    RuntimeInfoHook,
    VerifyTeacherHook,
)
from mmkdfuse.engine.optim_wrapper import OptimWrapper
from mmkdfuse.engine.train_loop import ResumableEpochTrainLoop

register_safe_loaders()

__all__ = [
    'BF16OptimWrapper',
    'CheckpointHook',
    'CompileHook',
    'InterruptHook',
    'InvalidLossHook',
    'LossContextHook',
    'LossScaleHook',
    'OptimWrapper',
    'ProgressHook',
    'ResumableEpochTrainLoop',
    'RuntimeInfoHook',
    'VerifyTeacherHook',
    'amp_optim_wrapper',
]
