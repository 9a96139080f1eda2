"""Published weights of the reference networks, renamed to load into our plain classifiers.

The rules are in :mod:`weight_layouts`. Whatever they leave over or make wrong is caught by loading
the result strictly into the network.
"""

import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmkdfuse.checkpoint import load_file, load_strictly, write_atomically
from mmkdfuse.models.classifiers.classifier import Classifier
from mmkdfuse.models.networks import network_config
from mmkdfuse.models.weight_layouts import LAYOUTS, Layout, Rule


def reference_layouts(network: str) -> tuple[str, ...]:
    """Names of the layouts in which weights of a network are known; empty if there is none."""
    return tuple(layout.name for layout in LAYOUTS.get(network, ()))


def convert_reference(
    state: Mapping[str, Any], network: str, name: str = 'reference weights'
) -> dict[str, Tensor]:
    """Turn published weights into those of ``Classifier(backbone=network)``.

    The layout is found from the names. Branches of a self-distilling network are dropped.

    Args:
        state: Tensors by name, or a checkpoint that holds them under ``'state_dict'``, ``'model'``
            or ``'net'``; every name may begin with ``module.``.
        network: Name of the network, see ``network_names``.
        name: What is converted, for the error message, e.g. ``checkpoint 'resnet18.pth'``.

    Returns:
        The complete state dict, keys ``backbone.*``, ``head.*`` and, where the network ends in a
        convolution, ``neck.*``, for as many classes as the classifier in ``state`` has.

    Raises:
        ValueError: If the network is unknown, or ``state`` holds none of its layouts or a parameter
            twice.
        RuntimeError: If names are left over, missing, or of another shape than in the network;
            all are named (ten of each).
    """
    network_config(network)  # an unknown name is an error
    weights = _tensors(state, name)
    layout = _find_layout(weights, network, name)
    renamed = {
        key: _rename(key, value, layout.rules)
        for key, value in weights.items()
        if layout.dropped is None or not re.match(layout.dropped, key)
    }
    model = Classifier(network, _num_classes(dict(renamed.values())), image_size=32)
    ours = model.state_dict()
    converted: dict[str, Tensor] = {}
    for key, (new_key, value) in renamed.items():
        place = new_key if new_key in ours else key  # what is left over is reported as it came
        if place in converted:
            raise ValueError(f'{name} holds {place!r} of {network!r} twice, once as {key!r}.')
        converted[place] = value
    load_strictly(model, converted, f'{name} as {network!r}')
    return dict(model.state_dict())


def convert_file(source: str | os.PathLike, target: str | os.PathLike, network: str) -> None:
    """Convert a published checkpoint file, see :func:`convert_reference`.

    Args:
        source: File to read; code inside it is never run.
        target: File to write: ``{'meta', 'state_dict'}``, where ``meta`` has the network's name
            as ``arch``, ``num_classes`` and the name of the ``source`` file.
        network: Name of the network.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError, RuntimeError: If the file cannot be read or does not fit the network.
    """
    state = convert_reference(load_file(source), network, f"checkpoint '{source}'")
    meta = dict(arch=network, num_classes=_num_classes(state), source=Path(source).name)
    buffer = io.BytesIO()
    torch.save(dict(meta=meta, state_dict=state), buffer)
    write_atomically(target, buffer.getvalue())


def _tensors(state: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """Take the state dict out of a checkpoint and the prefix of parallel training off it."""
    for key in ('state_dict', 'model', 'net'):
        if isinstance(state.get(key), Mapping):
            state = state[key]
            break
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(
            f"{name} must hold tensors by name, at its top or under 'state_dict', 'model' or "
            f"'net', and has the keys {_first(state)}."
        )
    if all(key.startswith('module.') for key in state):
        return {key.removeprefix('module.'): value for key, value in state.items()}
    return dict(state)


def _find_layout(weights: Mapping[str, Tensor], network: str, name: str) -> Layout:
    for layout in LAYOUTS.get(network, ()):
        if any(re.match(layout.marker, key) for key in weights):
            return layout
    known = ', '.join(reference_layouts(network)) or 'none'
    raise ValueError(
        f'{name} is in no known layout of {network!r} (known: {known}), its keys are '
        f'{_first(weights)}.'
    )


def _rename(key: str, value: Tensor, rules: tuple[Rule, ...]) -> tuple[str, Tensor]:
    for rule in rules:
        key, count = re.subn(rule.pattern, rule.replacement, key)
        if count and rule.transform is not None and value.dim() == 4:
            value = rule.transform(value)
    return key, value


def _num_classes(weights: Mapping[str, Tensor]) -> int:
    """Length of the last classifier's bias; 1 without one, which loading will report as missing."""
    biases = [key for key in weights if re.fullmatch(r'head\..*\.bias', key) and weights[key].dim()]
    return len(weights[max(biases)]) if biases else 1


def _first(keys: Mapping[str, Any]) -> str:
    listed = ', '.join(map(repr, list(keys)[:3]))
    return f'{listed}, ..' if len(keys) > 3 else listed or 'none'
