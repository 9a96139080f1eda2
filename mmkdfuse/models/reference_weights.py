"""Published weights, renamed to load into the networks of this package and of mmpretrain.

The rules are in :mod:`weight_layouts` and :mod:`foreign_layouts`. Whatever they leave over or make
wrong is caught by loading the result strictly into the network.
"""

import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from mmkdfuse.checkpoint import load_strictly, write_atomically
from mmkdfuse.checkpoint_reader import Weights, checkpoint_path, load_file
from mmkdfuse.models.classifiers.classifier import Classifier
from mmkdfuse.models.file_weights import layout_for, rename, rename_one, weights_for
from mmkdfuse.models.networks import network_config
from mmkdfuse.models.weight_layouts import LAYOUTS
from mmkdfuse.registry import MODELS


def reference_layouts(network: str) -> tuple[str, ...]:
    """Names of the layouts in which weights of a network are known; empty if there is none."""
    return tuple(layout.name for layout in LAYOUTS.get(network, ()))


def convert_reference(
    state: Mapping[str, Any],
    network: str,
    name: str = 'reference weights',
    key: str | None = None,
) -> dict[str, Tensor]:
    """Turn published weights into those of a network of ours or mmpretrain's.

    The layout is found from the names. Branches of a self-distilling network are dropped.

    Args:
        state: Tensors by name, or a checkpoint that holds them, with any of the prefixes that
            training adds.
        network: Name of the network, see ``network_names``, or path of the config of a classifier.
        name: Name of the weights, for the error message, e.g. ``checkpoint 'resnet18.pth'``.
        key: Place of the weights in ``state``; default the usual places.

    Returns:
        The complete state dict of the config's model or of ``Classifier(backbone=network)``, the
        latter for as many classes as the classifier in ``state`` has.

    Raises:
        ValueError: If the network is unknown, or ``state`` holds none of its layouts or a parameter
            twice.
        RuntimeError: If names are left over, missing, or of another shape than in the network;
            all are named (ten of each).
    """
    model: nn.Module
    if network.endswith('.py'):
        model = MODELS.build(Config.fromfile(network).model)
        converted = weights_for(model, state, name, key)
    else:
        network_config(network)  # an unknown name is an error
        weights = Weights(name, key).find(state)
        probe = Classifier(network, 1, image_size=32)
        layout = layout_for(probe, probe, weights)
        if layout is None:
            known = ', '.join(reference_layouts(network)) or 'none'
            raise ValueError(
                f'{name} is in no known layout of {network!r} (known: {known}), its keys are '
                f'{_first(weights)}.'
            )
        renamed = dict(rename_one(each, value, layout) for each, value in weights.items())
        model = Classifier(network, _num_classes(renamed), image_size=32)
        converted = rename(weights, layout, model.state_dict(), f'{name} as {network!r}')
    load_strictly(model, converted, f'{name} as {network!r}')
    return dict(model.state_dict())


def convert_file(source: Any, target: str | os.PathLike, network: str) -> None:
    """Convert a published checkpoint file, see :func:`convert_reference`.

    Args:
        source: File to read, or ``dict(file=.., key=..)``; code inside it is never run.
        target: File to write: ``{'meta', 'state_dict'}``, where ``meta`` has the network's name
            as ``arch``, ``num_classes`` and the name of the ``source`` file.
        network: Name of the network, or path of the config of a classifier.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError, RuntimeError: If the file cannot be read or does not fit the network.
    """
    path = checkpoint_path(source, 'source')
    state = convert_reference(load_file(path), network, f"checkpoint '{path}'", path.key)
    meta = dict(arch=network, num_classes=_num_classes(state), source=Path(path).name)
    buffer = io.BytesIO()
    torch.save(dict(meta=meta, state_dict=state), buffer)
    write_atomically(target, buffer.getvalue())


def _num_classes(weights: Mapping[str, Tensor]) -> int:
    """Length of the last classifier's bias; 1 without one, which loading will report as missing."""
    biases = [key for key in weights if re.fullmatch(r'head\..*\.bias', key) and weights[key].dim()]
    return len(weights[max(biases)]) if biases else 1


def _first(keys: Mapping[str, Any]) -> str:
    listed = ', '.join(map(repr, list(keys)[:3]))
    return f'{listed}, ..' if len(keys) > 3 else listed
