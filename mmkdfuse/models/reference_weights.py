"""Published weights of the reference networks, renamed to load into our plain classifiers.

A layout is a table of rules, one for each way in which a reference code names a network's
parameters; ``_LAYOUTS`` says in which layouts a network is published. Whatever the rules leave over
or make wrong is caught by loading the result strictly into the network.
"""

import io
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmkdfuse.checkpoint import load_file, load_strictly, write_atomically
from mmkdfuse.models.backbones import VGG
from mmkdfuse.models.classifiers.classifier import Classifier
from mmkdfuse.models.networks import network_config


class Rule(NamedTuple):
    """One step of renaming.

    Attributes:
        pattern: Regular expression, searched in the name as the rules before left it.
        replacement: What takes the place of a match.
        transform: Changes a matching convolution weight (O, I, kH, kW); None leaves it.
    """

    pattern: str
    replacement: str
    transform: Callable[[Tensor], Tensor] | None = None


class Layout(NamedTuple):
    """How a reference code names the parameters of a network.

    Attributes:
        name: Where it comes from, for messages.
        marker: Regular expression that some name of this layout, and of no other layout of the
            same network, begins with.
        rules: Applied in order, each to the result of those before.
        dropped: Regular expression for the beginnings of names that the plain network lacks.
    """

    name: str
    marker: str
    rules: tuple[Rule, ...]
    dropped: str | None = None


def _flat(weight: Tensor) -> Tensor:
    """A 1x1 convolution (O, I, 1, 1) as a linear layer (O, I)."""
    return weight.flatten(1)


def _dense(weight: Tensor) -> Tensor:
    """A 1x1 convolution of 32 groups (O, I/32, 1, 1) as one of a single group (O, I, 1, 1)."""
    return torch.block_diag(*weight.flatten(1).chunk(32))[..., None, None]


def _residual(container: str, first: Callable[[Tensor], Tensor] | None = None) -> tuple[Rule, ...]:
    """Rules for a block whose layers (convolution, BN, ReLU, ..) are counted in ``container``."""
    rules = [Rule(rf'{container}\.0\.', 'conv1.', first), Rule(rf'{container}\.1\.', 'bn1.')]
    for number, index in ((2, 3), (3, 6)):
        rules.append(Rule(rf'{container}\.{index}\.', f'conv{number}.'))
        rules.append(Rule(rf'{container}\.{index + 1}\.', f'bn{number}.'))
    return (*rules, Rule(r'\.shortcut\.', '.downsample.'))


def _stages(suffix: str) -> tuple[Rule, ...]:
    """Rules for stages named conv2 .. conv5 behind a stem named conv1."""
    stages = [Rule(rf'^conv{n}{suffix}\.', f'backbone.layer{n - 1}.') for n in (2, 3, 4, 5)]
    stem = [Rule(r'^conv1\.0\.', 'backbone.conv1.'), Rule(r'^conv1\.1\.', 'backbone.bn1.')]
    return (*stages, *stem)


def _vgg_features(depth: int) -> tuple[Rule, ...]:
    """Rules from counted layers (convolution, BN, ReLU, pool) to mmpretrain's (module, pool)."""
    rules = []
    theirs = ours = 0
    for convolutions in VGG.arch_settings[depth]:
        for _ in range(convolutions):
            for index, part in ((theirs, 'conv'), (theirs + 1, 'bn')):
                rules.append(Rule(rf'^features\.{index}\.', f'backbone.features.{ours}.{part}.'))
            theirs, ours = theirs + 3, ours + 1
        theirs, ours = theirs + 1, ours + 1
    return tuple(rules)


def _vgg(depth: int) -> Layout:
    classifier = [
        Rule(rf'^classifier\.{theirs}\.', f'head.layers.{ours}.fc.')
        for ours, theirs in enumerate((0, 3, 6))
    ]
    return Layout('weiaicunzai', r'features\.0\.', (*_vgg_features(depth), *classifier))


_FC = Rule(r'^fc\.', 'head.fc.')

# Names of torchvision. The self-distilling network has four classifiers, of which fc4 is the main.
_RESNET = Layout(
    'selfdist',
    r'layer1\.0\.conv1\.',
    (Rule(r'^(?:conv1|bn1|layer\d)\.', r'backbone.\g<0>'), Rule(r'^fc4\.', 'head.fc.')),
    dropped=r'(?:scala|attention|fc)[123]\.',
)
_WEIAICUNZAI_RESNET = Layout(
    'weiaicunzai',
    r'conv2_x\.0\.residual_function\.',
    (*_residual('residual_function'), *_stages('_x'), _FC),
)
# The first convolution of every block has 32 groups there, one in the paper's network.
_WEIAICUNZAI_RESNEXT = Layout(
    'weiaicunzai',
    r'conv2\.0\.split_transforms\.',
    (*_residual('split_transforms', first=_dense), *_stages(''), _FC),
)
_WEIAICUNZAI_SQUEEZENET = Layout(
    'weiaicunzai',
    r'fire2\.',
    (
        Rule(r'^(?:stem|fire\d)\.', r'backbone.\g<0>'),
        Rule(r'^conv10\.', 'head.fc.', _flat),
    ),
)
_WEIAICUNZAI_MOBILENET = Layout(
    'weiaicunzai',
    r'stem\.1\.depthwise\.',
    (
        Rule(r'^stem\.0\.conv\.', 'backbone.stem.0.'),
        Rule(r'^stem\.0\.bn\.', 'backbone.stem.1.'),
        Rule(r'^stem\.1\.', 'backbone.stem.3.'),
        Rule(r'^conv(\d)\.', r'backbone.layer\1.'),
        _FC,
    ),
)

_LAYOUTS: dict[str, tuple[Layout, ...]] = {
    'resnet18': (_RESNET, _WEIAICUNZAI_RESNET),
    'resnet34': (_RESNET, _WEIAICUNZAI_RESNET),
    'resnet50': (_RESNET, _WEIAICUNZAI_RESNET),
    'wrn50_2': (_RESNET,),
    'resnext50_32x4d': (_RESNET, _WEIAICUNZAI_RESNEXT),
    'vgg11': (_vgg(11),),
    'vgg16': (_vgg(16),),
    'vgg19': (_vgg(19),),
    'squeezenet': (_WEIAICUNZAI_SQUEEZENET,),
    'mobilenet_v1': (_WEIAICUNZAI_MOBILENET,),
}


def reference_layouts(network: str) -> tuple[str, ...]:
    """Names of the layouts in which weights of a network are known; empty if there is none."""
    return tuple(layout.name for layout in _LAYOUTS.get(network, ()))


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
        The complete state dict, keys ``backbone.*`` and ``head.*``, for as many classes as the
        classifier in ``state`` has.

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
    for layout in _LAYOUTS.get(network, ()):
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
