"""Networks by name: the backbones and classifiers of the papers as mmpretrain configs."""

import copy
import difflib
from typing import Any

_BN = dict(type='BN')
# Weights of standard deviation 0.01, biases 0.
_NORMAL_HEAD = dict(type='mmpretrain.LinearClsHead')
# Weights as PyTorch draws them, biases 0.
_UNIFORM_WITHOUT_BIAS = dict(
    type='Kaiming',
    layer='Linear',
    a=5**0.5,
    mode='fan_in',
    nonlinearity='leaky_relu',
    distribution='uniform',
)


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


def _three_stages(depth: int, base_channels: int, stem_channels: int = 16) -> dict[str, Any]:
    return dict(
        backbone=dict(
            type='mmkdfuse.ThreeStageResNet',
            depth=depth,
            base_channels=base_channels,
            stem_channels=stem_channels,
        )
    )


def _wrn(depth: int, widen_factor: int) -> dict[str, Any]:
    return dict(
        backbone=dict(type='mmkdfuse.WideResNet', depth=depth, base_channels=16 * widen_factor),
        head=dict(type='mmpretrain.LinearClsHead', init_cfg=_UNIFORM_WITHOUT_BIAS),
    )


def _imagenet_resnet(**backbone: Any) -> dict[str, Any]:
    """A ResNet whose stem strides and pools."""
    return dict(backbone=dict(**backbone, out_indices=(0, 1, 2, 3), zero_init_residual=False))


def _vgg_cifar(depth: int, norm_cfg: dict | None) -> dict[str, Any]:
    return dict(
        backbone=dict(type='mmkdfuse.VGG_CIFAR', depth=depth, norm_cfg=norm_cfg),
        head=_NORMAL_HEAD,
    )


def _shufflenet_v2(base_channels: int) -> dict[str, Any]:
    return dict(
        backbone=dict(type='mmkdfuse.ShuffleNetV2_CIFAR', base_channels=base_channels),
        neck=dict(type='mmkdfuse.FinalConv', out_channels=1024),
    )


def _mobilenet_v2(base_channels: int) -> dict[str, Any]:
    return dict(
        backbone=dict(type='mmkdfuse.MobileNetV2_CIFAR', base_channels=base_channels),
        neck=dict(
            type='mmkdfuse.FinalConv',
            out_channels=1280,
            init_cfg=dict(type='Kaiming', layer='Conv2d'),
        ),
        head=_NORMAL_HEAD,
    )


# Every network shrinks by the one keyword `base_channels`. `backbone` ends at the map that
# distillation taps. `neck` is what the complete network has between that map and `head`: global
# average pooling where there is none, one linear layer where there is no `head`.
_NETWORKS: dict[str, dict[str, Any]] = {
    # KFMSD (paper 000), in its order.
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
    # MFAKD (paper 001) on CIFAR-100.
    'wrn40_1': _wrn(40, 1),
    'wrn40_2': _wrn(40, 2),
    'wrn16_2': _wrn(16, 2),
    'resnet8x4': _three_stages(8, 64, stem_channels=32),
    'resnet32x4': _three_stages(32, 64, stem_channels=32),
    'resnet110': _three_stages(110, 16),
    'resnet116': _three_stages(116, 16),
    'resnet110x2': _three_stages(110, 32),
    'vgg8': _vgg_cifar(8, _BN),
    'shufflenet_v1': dict(backbone=dict(type='mmkdfuse.ShuffleNetV1_CIFAR')),
    'shufflenet_v2': _shufflenet_v2(116),
    'shufflenet_v2_x1_5': _shufflenet_v2(176),
    'mobilenet_v2': _mobilenet_v2(16),
    'mobilenet_v2_x2': _mobilenet_v2(32),
    # What SimKD's code calls WRN-16-2, WRN-40-1 and WRN-40-2, with activation after the sums.
    'resnet14x2': _three_stages(14, 32),
    'resnet38': _three_stages(38, 16),
    'resnet38x2': _three_stages(38, 32),
    # MFAKD on Tiny-ImageNet, as in the released code: ResNet-10 of double width, and VGG without
    # batch norm but VGG-8; the others with batch norm are in the code, not in the paper.
    'vgg11_nobn': _vgg_cifar(11, None),
    'vgg16_nobn': _vgg_cifar(16, None),
    'vgg19_nobn': _vgg_cifar(19, None),
    'vgg11_bn': _vgg_cifar(11, _BN),
    'vgg16_bn': _vgg_cifar(16, _BN),
    'vgg19_bn': _vgg_cifar(19, _BN),
    'resnet10': _imagenet_resnet(type='mmkdfuse.ResNet10', base_channels=128),
    'resnet34_in': _imagenet_resnet(type='mmpretrain.ResNet', depth=34),
    'resnet50_in': _imagenet_resnet(type='mmpretrain.ResNet', depth=50),
}

# Depths of mmpretrain's ResNets with basic blocks, and what these blocks have no use for.
_BASIC_BLOCKS = (18, 34)
_UNUSED = {'style': 'pytorch', 'expansion': 1}


def network_names() -> list[str]:
    """Names that a config may use as ``backbone='name'`` or ``backbone=dict(arch='name')``."""
    return sorted(_NETWORKS)


def network_config(backbone: str | dict) -> dict[str, Any]:
    """Resolve a backbone argument to ``dict(backbone=...)``, with ``neck`` and ``head`` if set.

    ``MODELS.build`` of the entry ``backbone`` alone gives the network up to its last stage map.

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
    if network['backbone'].get('depth') in _BASIC_BLOCKS:
        for option, default in _UNUSED.items():
            if changes.get(option, default) not in (None, default):
                raise ValueError(
                    f'backbone={name!r}: {option}={changes[option]!r} would be ignored, because '
                    f'its blocks have no such choice, expected {default!r} or nothing.'
                )
    return network
