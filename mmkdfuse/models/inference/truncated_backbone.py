"""A backbone without the layers that its first stages do not need."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmkdfuse.models.networks import network_config
from mmkdfuse.models.probe import relative_difference, stage_maps, trial_images
from mmkdfuse.registry import MODELS

_TOLERANCE = 1e-5  # of the largest value of a map


class Skip(nn.Module):
    """Placeholder of a module whose result nobody needs; it hands its inputs on.

    Args:
        module: The module it replaces. Its plain attributes stay, because a backbone's forward may
            read them; parameters and buffers go, children are None.
        outputs: How many values the module returned, None if one that is no tuple.
    """

    def __init__(self, module: nn.Module, outputs: int | None) -> None:
        super().__init__()
        own = vars(self)
        own.update({name: value for name, value in vars(module).items() if name not in own})
        own.update(dict.fromkeys(name for name, _ in module.named_children()))
        self.outputs = outputs

    def forward(self, *args: Any, **_: Any) -> Any:
        """Return the first argument, or as many as the module had results."""
        return args[0] if self.outputs is None else args[: self.outputs]


@dataclass
class Needs:
    """Dependencies of the first stage maps of a backbone; modules by name.

    Attributes:
        unneeded: The outermost modules with parameters on which no such map depends.
        callers: For every module that ran, the modules whose forward called it.
        outputs: For every module that ran, the length of its result, None if no tuple.
    """

    unneeded: list[str] = field(default_factory=list)
    callers: dict[str, set[str]] = field(default_factory=dict)
    outputs: dict[str, int | None] = field(default_factory=dict)


def find_needs(backbone: nn.Module, image_size: int | Sequence[int], stages: int) -> Needs:
    """Find by one dry run which modules the first ``stages`` maps of a backbone need.

    A module is needed if a map depends on it in the graph of the computation. The modules that
    stage k needs beyond stage k - 1 are the difference of two results. A module also counts as
    needed if :class:`Skip` could not take its place, because it returns more than it is given.

    Args:
        backbone: Any module that takes (N, 3, H, W) and returns maps (N, C, H, W), shallow to deep.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
        stages: Number of maps that are kept, from 1 to all.

    Raises:
        ValueError: If there are fewer maps.
    """
    # A copy, because switching the mode also freezes stages again where a backbone has such.
    network = copy.deepcopy(backbone)
    network.eval()
    network.requires_grad_(True)
    network.zero_grad(set_to_none=True)
    needs = Needs()
    with _recorded_calls(network, needs) as unskippable, torch.enable_grad():
        maps = stage_maps(network(trial_images(1, image_size, network)), backbone)
        _check(stages, len(maps), backbone)
        # Not torch.autograd.grad: activation checkpointing does not work with it.
        torch.stack([feature_map.sum() for feature_map in maps[:stages]]).sum().backward()
    needs.unneeded = [
        name for name in _outermost_unreached(network, needs) if name not in unskippable
    ]
    return needs


def _check(stages: int, maps: int, backbone: nn.Module) -> None:
    if not 1 <= stages <= maps:
        raise ValueError(
            f'stages={stages} must be from 1 to {maps}, the number of maps that '
            f'{type(backbone).__name__} gives.'
        )


@contextmanager
def _recorded_calls(network: nn.Module, needs: Needs) -> Iterator[set[str]]:
    """Fill in ``callers`` and ``outputs``; yield the modules that return more than they take."""
    names = {module: name for name, module in network.named_modules()}
    stack: list[str] = []
    unskippable: set[str] = set()

    def enter(module: nn.Module, _args: Any) -> None:
        needs.callers.setdefault(names[module], set()).update(stack[-1:])
        stack.append(names[module])

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        name = stack.pop()
        needs.outputs[name] = len(output) if isinstance(output, (tuple, list)) else None
        if len(args) < (needs.outputs[name] or 1):
            unskippable.add(name)

    hooks = []
    for module in names:
        hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield unskippable
    finally:
        for hook in hooks:
            hook.remove()


def _outermost_unreached(parent: nn.Module, needs: Needs, prefix: str = '') -> Iterator[str]:
    for name, child in parent.named_children():
        path = prefix + name
        parameters = list(child.parameters())
        # A list of modules is never called itself: its items are the ones to replace.
        inside = (f'{path}.{below}' for below, _ in child.named_modules() if below)
        whole = path in needs.callers or needs.callers.keys().isdisjoint(inside)
        if parameters and whole and all(p.grad is None for p in parameters):
            yield path
        else:
            yield from _outermost_unreached(child, needs, f'{path}.')


def _skip(module: nn.Module, name: str, needs: Needs) -> Skip:
    """Replacement of a module and of those of its children that are called from outside of it."""
    skip = Skip(module, needs.outputs.get(name))
    for child_name, child in module.named_children():
        path = f'{name}.{child_name}'
        if any(not f'{caller}.'.startswith(f'{name}.') for caller in needs.callers.get(path, ())):
            setattr(skip, child_name, _skip(child, path, needs))
    return skip


def truncate(backbone: nn.Module, stages: int, image_size: int | Sequence[int]) -> nn.Module:
    """Return a backbone that gives at least the first ``stages`` maps, without unneeded layers.

    The layers that remain keep their names and weights. The outcome is tried on a random image: a
    backbone whose forward does not allow the surgery is returned whole. It depends on nothing but
    the backbone's structure, so that a saved checkpoint fits the next time.

    Args:
        backbone: As for :func:`find_needs`; left as it is.
        stages: Number of maps that are kept, from 1 to all.
        image_size: Side length or (height, width) of the dry run's image, in pixels.

    Raises:
        ValueError: If there are fewer maps.
    """
    whole = copy.deepcopy(backbone)
    whole.eval()
    image = trial_images(1, image_size, whole)
    with torch.no_grad():
        expected = stage_maps(whole(image), backbone)
    _check(stages, len(expected), backbone)
    indices = getattr(whole, 'out_indices', None)
    choices: list[Any] = [indices]
    if isinstance(indices, (tuple, list)) and len(indices) > stages:
        # Some backbones have a norm layer for every output and reshape to the output's size.
        choices.insert(0, type(indices)(sorted(indices)[:stages]))
    for choice in choices:
        candidate = copy.deepcopy(whole)
        if choice is not None:
            candidate.out_indices = choice
        try:
            needs = find_needs(candidate, image_size, stages)
            for name in needs.unneeded:
                parent, _, child = name.rpartition('.')
                replacement = _skip(candidate.get_submodule(name), name, needs)
                setattr(candidate.get_submodule(parent), child, replacement)
            with torch.no_grad():
                found = tuple(candidate(image))[:stages]
        except Exception:  # what a foreign forward raises is not foreseeable
            continue
        if len(found) == stages and all(map(_same, found, expected[:stages])):
            candidate.train(backbone.training)
            return candidate
    return backbone


def _same(a: Tensor, b: Tensor) -> bool:
    return relative_difference(a, b) <= _TOLERANCE


@MODELS.register_module()
class TruncatedBackbone(BaseModule):
    """The first stages of any backbone, for networks that end in a shallow branch.

    Modules that none of the kept maps depends on are removed, found by one dry run; see
    :func:`truncate`.

    Args:
        backbone: A network's name, a name with changes or any mmpretrain backbone config.
        stages: Number of maps to keep, from 1 to all.
        image_size: Side length or (height, width) of the dry run's image, in pixels. Images of
            other sizes can be fed later.
        init_cfg: Initialisation of mmengine.

    Raises:
        ValueError: If the backbone is unknown or gives fewer maps.

    Example:
        >>> network = dict(type='mmkdfuse.ThreeStageResNet', depth=8)
        >>> backbone = TruncatedBackbone(network, stages=2, image_size=32)
        >>> [tuple(x.shape[1:]) for x in backbone(torch.zeros(1, 3, 32, 32))]
        [(16, 32, 32), (32, 16, 16)]
    """

    def __init__(
        self,
        backbone: str | dict,
        stages: int,
        image_size: int | Sequence[int],
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        network = MODELS.build(network_config(backbone)['backbone'])
        self.network = truncate(network, stages, image_size)
        self.stages = stages

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the first maps, each (N, C, H, W), for images (N, 3, H, W)."""
        return tuple(self.network(x))[: self.stages]
