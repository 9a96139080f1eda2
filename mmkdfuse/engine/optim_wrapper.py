"""The optimizer step without needless arithmetic or waiting."""

from __future__ import annotations

from mmengine.optim import OptimWrapper as MMEngineOptimWrapper
from torch import Tensor

from mmkdfuse.engine.deferred_scalars import DeferredScalars
from mmkdfuse.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(MMEngineOptimWrapper):
    """mmengine's optimizer wrapper with its arguments; a step never waits for the device.

    With ``clip_grad`` the norm of the gradients stays on the device until it is logged, where
    mmengine reads it in every iteration. A loss that is not accumulated is not divided by one.

    ``mmengine.OptimWrapper`` remains the original.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.ones(1))
        >>> wrapper = OptimWrapper(torch.optim.SGD([weight], lr=0.5))
        >>> wrapper.update_params(weight.sum())
        >>> weight.item()
        0.5
    """

    _norms: DeferredScalars | None = None

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Divide the loss by the number of iterations whose gradients are accumulated."""
        return loss if self._accumulative_counts == 1 else super().scale_loss(loss)

    def _clip_grad(self) -> None:
        groups = self.optimizer.param_groups
        parameters = [p for group in groups for p in group['params'] if p.grad is not None]
        if not parameters:
            return
        norm = self.clip_func(parameters, **self.clip_grad_kwargs)
        if norm is not None:  # clipping by value has none
            self._norms = self._norms or DeferredScalars(self.message_hub)
            self._norms.add({f'train/{self.grad_name}': norm})
