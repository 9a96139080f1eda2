"""Networks by name: the backbones and classifiers of the papers as mmpretrain configs."""

import copy
import difflib
from typing import Any

_NETWORKS: dict[str, dict[str, Any]] = {
    # Stem without stride and pooling; stage k = layer k (KFMSD, "ResNet18").
    'resnet18': dict(
        backbone=dict(
            type='mmpretrain.ResNet_CIFAR',
            depth=18,
            num_stages=4,
            out_indices=(0, 1, 2, 3),
            zero_init_residual=False,
        )
    ),
}


def network_names() -> list[str]:
    """Names that a config may use as ``backbone='name'`` or ``backbone=dict(arch='name')``."""
    return sorted(_NETWORKS)


def network_config(backbone: str | dict) -> dict[str, Any]:
    """Resolve a backbone argument to ``dict(backbone=..., head=... or absent)``.

    Args:
        backbone: A name (``'resnet18'``), a name with changes
            (``dict(arch='resnet18', base_channels=16)``) or a complete config with ``type``.

    Raises:
        ValueError: If the name is unknown; the sentence gives the nearest valid one.
    """
    if isinstance(backbone, str):
        name, changes = backbone, {}
    elif 'type' in backbone:
        return dict(backbone=copy.deepcopy(dict(backbone)))
    elif 'arch' in backbone:
        changes = dict(backbone)
        name = changes.pop('arch')
    else:
        raise ValueError(
            f'backbone={dict(backbone)} needs `type` (a registered backbone) or `arch`.'
        )
    if name not in _NETWORKS:
        near = difflib.get_close_matches(str(name), _NETWORKS, n=1)
        hint = f'did you mean {near[0]!r}?' if near else f'known: {", ".join(network_names())}.'
        raise ValueError(f'backbone={name!r} is not a known network; {hint}')
    network = copy.deepcopy(_NETWORKS[name])
    network['backbone'].update(changes)
    return network
