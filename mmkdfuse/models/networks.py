"""Networks by name: the backbones and classifiers of the papers as mmpretrain configs."""

import copy
import difflib
from typing import Any


def _resnet(depth: int, **changes: Any) -> dict[str, Any]:
    """A ResNet whose stem neither strides nor pools; stage k = layer k."""
    backbone = dict(
        type='mmpretrain.ResNet_CIFAR',
        depth=depth,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        zero_init_residual=False,
    )
    return dict(backbone={**backbone, **changes})


def _vgg(depth: int) -> dict[str, Any]:
    return dict(
        backbone=dict(type='mmkdfuse.VGG', depth=depth),
        head=dict(
            type='mmpretrain.StackedLinearClsHead', mid_channels=(4096, 4096), dropout_rate=0.5
        ),
    )


# The networks of KFMSD (paper 000), in its order. Each shrinks by the one keyword `base_channels`.
_NETWORKS: dict[str, dict[str, Any]] = {
    'resnet18': _resnet(18),
    'resnet34': _resnet(34),
    'resnet50': _resnet(50),
    # Twice the inner width of ResNet50; the stages have as many channels.
    'wrn50_2': _resnet(50, base_channels=128, expansion=2),
    'resnext50_32x4d': _resnet(50, type='mmkdfuse.ResNeXt_CIFAR'),
    'vgg11': _vgg(11),
    'vgg16': _vgg(16),
    'vgg19': _vgg(19),
    'squeezenet': dict(backbone=dict(type='mmkdfuse.SqueezeNet')),
    'mobilenet_v1': dict(backbone=dict(type='mmkdfuse.MobileNetV1')),
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
