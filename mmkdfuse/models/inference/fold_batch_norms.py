"""Batch norms folded into the convolutions before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mmkdfuse.models.layers import DepthwiseConv2d

# Not their subclasses, which may compute something else, such as standardised weights.
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, DepthwiseConv2d)
_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class _Call:
    name: str
    output: Tensor
    node: Any


def fuse(conv: Any, norm: Any) -> Any:
    """Return one convolution in place of ``conv`` and then ``norm``, both in eval mode."""
    fused = fuse_conv_bn_eval(conv, norm, transpose=isinstance(conv, nn.ConvTranspose2d))
    fused.bias.requires_grad_(conv.weight.requires_grad)
    return fused


def fold_batch_norms(network: nn.Module, images: Tensor) -> list[str]:
    """Fold every batch norm that a convolution alone feeds, in place.

    The convolution gets the norm's scale and a bias, the norm becomes ``nn.Identity``. The pairs
    are read off one dry run, in which the norm must take exactly what the convolution returned, and
    nothing else may read it. They do not depend on the weights.

    Args:
        network: Any network in eval mode; its outputs stay the same up to rounding.
        images: Its input, (N, 3, H, W).

    Returns:
        Names of the norms that are gone.

    Raises:
        ValueError: If the network is in training mode.
        RuntimeError: If an output changed, because the network reads a map, a weight or a norm in a
            way that the dry run does not show; the network is then unusable.
    """
    if network.training:
        raise ValueError('network.training=True, expected a network in eval mode.')
    names = Counter(id(module) for _, module in network.named_modules(remove_duplicate=False))
    modules = dict(network.named_modules())
    with torch.no_grad():
        expected = list(_tensors(network(images)))
    folded = []
    for conv_name, norm_name in _find_pairs(network, images):
        conv, norm = modules[conv_name], modules[norm_name]
        if names[id(conv)] == names[id(norm)] == 1 and _can_fuse(conv, norm):
            _replace(network, conv_name, fuse(conv, norm))
            _replace(network, norm_name, nn.Identity().eval())
            folded.append(norm_name)
    with torch.no_grad():
        found = list(_tensors(network(images)))
    if not all(map(_same, found, expected)):
        raise RuntimeError(
            f'{type(network).__name__}: its outputs changed when its batch norms were folded, '
            'expected one whose norms and convolutions are read by their modules alone.'
        )
    return folded


def _same(found: Tensor, expected: Tensor) -> bool:
    # The square root of the precision: rounding stays far below, a wrong fold does not.
    tolerance = torch.finfo(expected.dtype).eps ** 0.5
    largest = expected.abs().max().nan_to_num().item()
    return torch.allclose(found, expected, rtol=tolerance, atol=tolerance * largest, equal_nan=True)


def _can_fuse(conv: Any, norm: Any) -> bool:
    grouped = isinstance(conv, nn.ConvTranspose2d) and conv.groups > 1
    # Weight and spectral norm compute the weight in every call.
    stored = conv._parameters.get('weight') is not None
    return stored and norm.running_mean is not None and not norm.training and not grouped


def _find_pairs(network: nn.Module, images: Tensor) -> list[tuple[str, str]]:
    """Names of the convolution and the norm of every pair, in the order of their calls."""
    made: list[_Call] = []
    pairs: list[tuple[_Call, str]] = []
    calls: Counter[str] = Counter()
    hooks = []

    def after_convolution(name: str):
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            calls[name] += 1
            made.append(_Call(name, output, output.grad_fn))

        return hook

    def before_norm(name: str):
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            calls[name] += 1
            # An operation in place leaves the tensor the same, but not what computed it.
            pairs.extend(
                (call, name)
                for call in made
                if inputs and call.output is inputs[0] and call.output.grad_fn is call.node
            )

        return hook

    for name, module in network.named_modules():
        if type(module) in _CONVOLUTIONS:
            hooks.append(module.register_forward_hook(after_convolution(name)))
        elif type(module) in _NORMS:
            hooks.append(module.register_forward_pre_hook(before_norm(name)))
    try:
        with torch.enable_grad():
            output = network(images.detach().clone().requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
    readers = _count_readers(output)
    return [
        (call.name, norm)
        for call, norm in pairs
        if calls[call.name] == calls[norm] == 1 and readers[call.node] == 1
    ]


def _count_readers(output: Any) -> Counter[Any]:
    """Number of readers of every operation's result, on the way to the output."""
    readers: Counter[Any] = Counter()
    waiting = [tensor.grad_fn for tensor in _tensors(output) if tensor.grad_fn is not None]
    readers.update(waiting)
    seen = set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        before = [source for source, _ in node.next_functions if source is not None]
        readers.update(before)
        waiting.extend(before)
    return readers


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition('.')
    setattr(network.get_submodule(parent), last, module)
