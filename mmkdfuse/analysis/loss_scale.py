"""Pull of every term of a loss at a network's weights, beside weight decay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LossScale:
    """Sizes of gradients on the same weights.

    Attributes:
        gradients: Euclidean norm of every term's gradient, by name of the term.
        total: The same of their sum.
        weight_decay: Norm of weight decay's part of the gradient, decay x weight.
        unexplained: Error of aligned maps over the variance of the alignment target, by name of the
            data it was measured on; a constant map reaches 1.

    Example:
        >>> print(LossScale({'loss_align': 0.5}, 0.5, 2.0))
        loss_align 0.25, total 0.25 times weight decay
    """

    gradients: dict[str, float]
    total: float
    weight_decay: float
    unexplained: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        sizes = {**self.gradients, 'total': self.total}
        if self.weight_decay:
            shares = ', '.join(f'{k} {v / self.weight_decay:.2g}' for k, v in sizes.items())
            text = f'{shares} times weight decay'
        else:
            text = ', '.join(f'{k} {v:.2g}' for k, v in sizes.items()) + ', no weight decay'
        shares = ', '.join(f'{value:.2f} ({name})' for name, value in self.unexplained.items())
        return f'{text}; unexplained variance {shares}' if shares else text

    def warning(self) -> str | None:
        """Return the term to scale up and its factor, where weight decay pulls harder than all."""
        if not self.gradients or self.total >= self.weight_decay:
            return None
        name, size = max(self.gradients.items(), key=lambda item: item[1])
        if not size > 0:
            return f'no term pulls at the network: {name} and all others have no gradient'
        return (
            f'weight decay pulls {self.weight_decay / self.total:.2g} times as hard at the network '
            f'as all terms of the loss: {name} is level with it at {self.weight_decay / size:.2g} '
            'times its weight'
        )


def measure_loss_scale(
    terms: Mapping[str, Tensor],
    weights: Sequence[nn.Parameter],
    decays: Sequence[float],
) -> LossScale:
    """Measure the gradients of terms that were just computed.

    Args:
        terms: Scalars with a graph; those without one are left out.
        weights: The network's trained weights.
        decays: Weight decay of each of them, >= 0.
    """
    gradients: dict[str, float] = {}
    total = [torch.zeros_like(weight) for weight in weights]
    for name, term in terms.items():
        if not term.requires_grad:
            continue
        found = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
        known = [gradient for gradient in found if gradient is not None]
        gradients[name] = _norm(known)
        for own, gradient in zip(total, found, strict=True):
            if gradient is not None:
                own += gradient
    pulls = [decay * weight.detach() for weight, decay in zip(weights, decays, strict=True)]
    return LossScale(gradients, _norm(total), _norm(pulls))


def _norm(tensors: Sequence[Tensor]) -> float:
    if not tensors:
        return 0.0
    norms = torch.stack([torch.linalg.vector_norm(each.float()) for each in tensors])
    return float(torch.linalg.vector_norm(norms))


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Let a model run without a trace: buffers and random numbers are put back."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {buffer.device.index for buffer, _ in buffers if buffer.device.type == 'cuda'}
    try:
        with torch.random.fork_rng([index for index in devices if index is not None]):
            yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
