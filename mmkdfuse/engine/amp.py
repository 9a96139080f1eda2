"""Mixed precision on whatever device the run has."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from mmkdfuse.engine.optim_wrapper import OptimWrapper
from mmkdfuse.registry import OPTIM_WRAPPERS

_PLAIN_TYPES = ('OptimWrapper', 'mmkdfuse.OptimWrapper', 'mmengine.OptimWrapper')
_AMP_TYPES = ('AmpOptimWrapper', 'mmengine.AmpOptimWrapper')
_BF16_TYPES = ('BF16OptimWrapper', 'mmkdfuse.BF16OptimWrapper')


@OPTIM_WRAPPERS.register_module()
class BF16OptimWrapper(OptimWrapper):
    """Optimizer wrapper with forward and loss under bfloat16 autocast, on CPUs too.

    mmengine's ``AmpOptimWrapper`` refuses to run without a GPU. bfloat16 has the exponent range of
    float32, so no loss scaling is needed; weights, gradients and optimizer state stay float32. On
    GPUs no step waits for the device, unlike with ``AmpOptimWrapper``, whose dynamic loss scale
    needs to know in every step whether a gradient overflowed. Takes the arguments of
    ``OptimWrapper`` (``accumulative_counts``, ``clip_grad``, ...).

    Example:
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        >>> wrapper = BF16OptimWrapper(optimizer=optimizer, accumulative_counts=2)
        >>> wrapper.get_lr()
        {'lr': [0.1]}
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield


def amp_optim_wrapper(cfg: dict) -> dict:
    """Turn the ``optim_wrapper`` of a config into its mixed-precision form.

    Args:
        cfg: Config of an optimizer wrapper; it is not changed.

    Returns:
        A config of ``AmpOptimWrapper`` (dynamic loss scale) where a CUDA device is available, of
        ``BF16OptimWrapper`` otherwise.

    Raises:
        ValueError: ``cfg['type']`` is a wrapper for which mixed precision is not known.
    """
    cfg = copy.deepcopy(cfg)
    kind = cfg.get('type', 'OptimWrapper')
    name = kind if isinstance(kind, str) else kind.__name__
    if name in _BF16_TYPES:
        return cfg
    if name not in _PLAIN_TYPES + _AMP_TYPES:
        raise ValueError(
            f"optim_wrapper.type is '{name}', --amp works with 'OptimWrapper' and "
            "'AmpOptimWrapper' only: change the type or drop --amp"
        )
    if torch.cuda.is_available():
        cfg['type'] = 'mmengine.AmpOptimWrapper'
        cfg.setdefault('loss_scale', 'dynamic')
        return cfg
    for gpu_only in ('loss_scale', 'dtype', 'use_fsdp'):
        cfg.pop(gpu_only, None)
    cfg['type'] = 'mmkdfuse.BF16OptimWrapper'
    return cfg
