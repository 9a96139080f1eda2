"""Parameters and multiply-accumulate operations of a network."""

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.analysis import FlopAnalyzer, jit_handles
from torch import nn

from mmkdfuse.models.probe import evaluation


@dataclass(frozen=True)
class Cost:
    """Cost of a network.

    Attributes:
        parameters: number of parameters, buffers not counted.
        macs: multiply-accumulate operations of convolutions, linear layers and matrix products.

    Example:
        >>> from torch import nn
        >>> count_cost(nn.Conv2d(3, 8, 1), (3, 4, 4))
        Cost(parameters=32, macs=384)
    """

    parameters: int
    macs: int

    def __str__(self) -> str:
        return f'{self.parameters:,} parameters, {self.macs / 1e6:,.1f} M MACs'


def count_cost(model: nn.Module, input_shape: tuple[int, ...]) -> Cost:
    """Count the parameters and the MACs of one forward pass.

    The model is traced in evaluation mode without gradients; its device, its mode (of every
    submodule) and the random state are as before afterwards.

    Args:
        model: any module that takes one float tensor.
        input_shape: ``(C, H, W)`` for one image, or ``(N, C, H, W)`` for a batch (the MACs of the
            whole batch).

    Raises:
        ValueError: if ``input_shape`` has neither 3 nor 4 positive numbers.
    """
    if len(input_shape) not in (3, 4) or min(input_shape) < 1:
        raise ValueError(
            f'input_shape={input_shape} must be (C, H, W) or (N, C, H, W) with positive numbers'
        )
    shape = (1, *input_shape) if len(input_shape) == 3 else tuple(input_shape)
    parameters = list(model.parameters())
    first = next((p for p in parameters if p.is_floating_point()), torch.zeros(()))
    image = torch.zeros(shape, device=first.device, dtype=first.dtype)
    with evaluation(model), _silence(), torch.no_grad():
        analyzer = FlopAnalyzer(model, image).clear_op_handles().set_op_handle(**_COUNTED)
        analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        macs = int(analyzer.total())
    return Cost(sum(p.numel() for p in parameters), macs)


def _attention_macs(inputs: list[Any], _outputs: list[Any]) -> int:
    """MACs of softmax(q k^T) v: q (.., L, E), k (.., S, E), v (.., S, Ev)."""
    query, key, value = (_sizes(x) for x in inputs[:3])
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _sizes(value: Any) -> list[int]:
    return list(value.type().sizes())


# Everything else mmengine's counter knows (normalisation, pooling, resizing) is left out: papers
# count convolutions and matrix products only.
_COUNTED = {
    'aten::_convolution': jit_handles.conv_flop_jit,
    'aten::linear': jit_handles.linear_flop_jit,
    'aten::addmm': jit_handles.addmm_flop_jit,
    'aten::mm': jit_handles.matmul_flop_jit,
    'aten::bmm': jit_handles.bmm_flop_jit,
    'aten::matmul': jit_handles.matmul_flop_jit,
    'aten::einsum': jit_handles.einsum_flop_jit,
    'aten::scaled_dot_product_attention': _attention_macs,
}


@contextmanager
def _silence() -> Iterator[None]:
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(level)
