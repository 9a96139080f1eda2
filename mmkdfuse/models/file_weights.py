"""Weights of a file as the module names them that they are for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmkdfuse.checkpoint_reader import STUDENT, CheckpointError, Weights, checkpoint_path, load_file
from mmkdfuse.models.foreign_layouts import foreign_layout
from mmkdfuse.models.weight_layouts import LAYOUTS, Layout

_COUNT = 'num_batches_tracked'
# Buffers that follow from the sizes of a network or do not matter, and what stands beside them.
_DERIVED = {_COUNT: 'running_mean', 'relative_position_index': 'relative_position_bias_table'}


def read_weights_for(
    module: nn.Module, checkpoint: Any, name: str, role: str = STUDENT
) -> dict[str, Tensor]:
    """Read a file of weights for a module.

    Args:
        module: Network, or its backbone.
        checkpoint: Path, or ``dict(file=.., key=..)``.
        name: Name of the file, for messages.
        role: ``'teacher'`` or ``'student'``: which network to take of a file that holds both.

    Raises:
        FileNotFoundError: There is no such file.
        RuntimeError: It cannot be read or holds no finite weights.
    """
    path = checkpoint_path(checkpoint)
    return weights_for(module, load_file(path), name, path.key, role)


def weights_for(
    module: Any,
    content: Mapping[str, Any],
    name: str,
    key: str | None = None,
    role: str = STUDENT,
    prefix: str = '',
) -> dict[str, Tensor]:
    """Take the weights out of a file's content and name them as a module does.

    Names of torchvision, timm and the reference codes become mmpretrain's, where the network is
    known. Whether the weights fit is left to whoever loads them.

    Args:
        module: Network, or its backbone.
        content: A file's content.
        name: Name of the file, for messages.
        key: Place of the weights in the content; default the usual places.
        role: ``'teacher'`` or ``'student'``.
        prefix: What the file puts before the names of the module.

    Raises:
        RuntimeError: There are no finite weights, or one twice.
    """
    main = module.deployed() if hasattr(module, 'deployed') else module
    own = {**main.state_dict(), **module.state_dict()}
    names = {*own, *(prefix + each for each in own)}
    weights = Weights(name, key, names, role).find(content)
    layout = layout_for(module, main, weights)
    if layout is not None:
        is_part = not hasattr(main, 'backbone')
        renamed = rename(weights, layout, own, name, 'backbone.' if is_part else '')
        if _fitting(renamed, own) > _fitting(weights, names):
            weights = renamed
    return _completed(weights, own, prefix)


def layout_for(module: Any, main: Any, weights: Mapping[str, Tensor]) -> Layout | None:
    """Return the layout of published weights of a network, None if it is unknown."""
    body = getattr(getattr(module, 'student', module), 'body', None)
    for layout in LAYOUTS.get(getattr(body, 'name', None) or '', ()):
        if any(re.match(layout.marker, key) for key in weights):
            return layout
    return foreign_layout(getattr(main, 'backbone', main), weights)


def rename(
    weights: Mapping[str, Tensor],
    layout: Layout,
    own: Mapping[str, Tensor],
    name: str,
    prefix: str = '',
) -> dict[str, Tensor]:
    """Apply the rules of a layout; what no rule brings to a module's names keeps its own.

    Args:
        weights: Tensors by name.
        layout: Their layout.
        own: The module's weights.
        name: Name of the weights, for the error message.
        prefix: What the rules put before the names of the module.

    Raises:
        CheckpointError: Two names become one.
    """
    found: dict[str, Tensor] = {}
    for key, value in weights.items():
        if layout.dropped is not None and re.match(layout.dropped, key):
            continue
        place, changed = rename_one(key, value, layout)
        place = place.removeprefix(prefix)
        if place not in own:  # what is left over is reported as it came
            place, changed = key, value
        if place in found:
            raise CheckpointError(f'{name} holds {place!r} twice, once as {key!r}')
        found[place] = changed
    return found


def rename_one(key: str, value: Tensor, layout: Layout) -> tuple[str, Tensor]:
    """Apply the rules of a layout to one name and weight."""
    for rule in layout.rules:
        key, count = re.subn(rule.pattern, rule.replacement, key)
        if count and rule.transform is not None:
            value = rule.transform(value)
    return key, value


def _fitting(weights: Mapping[str, Tensor], names: Any) -> int:
    return sum(key in names for key in weights)


def _completed(
    weights: dict[str, Tensor], own: Mapping[str, Tensor], prefix: str
) -> dict[str, Tensor]:
    """Add what files of older versions and of other codes lack and no network learns."""
    lead = prefix if any(key.startswith(prefix) for key in weights) else ''
    for key, value in own.items():
        last = key.rpartition('.')[2]
        place = lead + key
        if last in _DERIVED and place not in weights:
            if place.removesuffix(last) + _DERIVED[last] in weights:
                weights[place] = torch.zeros_like(value) if last == _COUNT else value
    return weights
