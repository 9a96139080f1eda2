"""Names of the weights of torchvision's and timm's networks, brought to mmpretrain's.

A family is a function of mmpretrain's backbone and of the names in a file. It returns the rules
that turn the latter into the former, or None where the file is of no layout that it knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

from torch import Tensor, nn

from mmkdfuse.models.weight_layouts import Layout, Rule, flat

Family = Callable[[Any, Collection[str]], 'Layout | None']
_TORCHVISION, _TIMM = 'torchvision', 'timm'
_HEAD = 'head.fc.'


def _has(keys: Collection[str], pattern: str) -> bool:
    return any(re.match(pattern, key) for key in keys)


def _layout(name: str, *rules: Rule | list[Rule], dropped: str | None = None) -> Layout:
    flat = [rule for each in rules for rule in ([each] if isinstance(each, Rule) else each)]
    return Layout(name, '', tuple(flat), dropped)


def _blocks(keys: Collection[str], pattern: str) -> list[str]:
    """Prefixes of the blocks of a file, in the order of the numbers in them."""
    found = {match[0] for key in keys if (match := re.match(pattern, key))}
    return sorted(found, key=lambda prefix: [int(number) for number in re.findall(r'\d+', prefix)])


def _vector(weight: Tensor) -> Tensor:
    """Factors of channels (C, 1, 1) as a vector."""
    return weight.flatten()


def _merged(weight: Tensor) -> Tensor:
    """Four neighbours side by side, their channels first, as mmpretrain's unfolding orders them.

    They come column by column, and go row by row, neighbours first.
    """
    four = weight.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :]
    return four.transpose(-1, -2).flatten(-2)


def _resnet(backbone: Any, keys: Collection[str]) -> Layout | None:
    """ResNet, Wide ResNet, ResNeXt, SE-ResNet; with the deep stem of timm's variant d."""
    if not _has(keys, r'layer1\.0\.conv1\.'):
        return None
    stem = [
        Rule(rf'^conv1\.{theirs}\.', f'backbone.stem.{ours}.')
        for theirs, ours in (
            (0, '0.conv'), (1, '0.bn'), (3, '1.conv'), (4, '1.bn'), (6, '2.conv')
        )
    ]  # fmt: skip
    deep = [*stem, Rule(r'^bn1\.', 'backbone.stem.2.bn.')] if _has(keys, r'conv1\.0\.') else []
    return _layout(
        'torchvision, timm',
        deep,
        Rule(r'^(?:conv1|bn1|layer\d)\.', r'backbone.\g<0>'),
        _shortcuts(backbone) if _has(keys, r'layer1\.0\.downsample\.2\.') else [],
        Rule(r'\.se\.fc(\d)\.', r'.se_layer.conv\1.conv.'),
        Rule(r'^fc\.', _HEAD),
    )


def _shortcuts(backbone: Any) -> list[Rule]:
    """Rules for shortcuts that begin with a pooling in timm and, without stride, not here."""
    rules = []
    for stage in range(1, backbone.num_stages + 1):
        shortcut = getattr(backbone, f'layer{stage}')[0].downsample
        if shortcut is not None and len(shortcut) == 2:
            place = rf'^(backbone\.layer{stage}\.0\.downsample)\.'
            rules += [Rule(rf'{place}{n}\.', rf'\1.{n - 1}.') for n in (1, 2)]
    return rules


def _vgg(backbone: Any, keys: Collection[str]) -> Layout | None:
    if not _has(keys, r'features\.0\.(?:weight|bias)'):
        return None
    has_norm = 'features.1.weight' in keys
    rules = []
    theirs = ours = 0
    for module in backbone.features:
        is_pool = not hasattr(module, 'conv')
        for offset, part in enumerate(('conv', 'bn') if has_norm and not is_pool else ('conv',)):
            if not is_pool:
                place = f'backbone.features.{ours}.{part}.'
                rules.append(Rule(rf'^features\.{theirs + offset}\.', place))
        theirs += 1 if is_pool else 2 + has_norm
        ours += 1
    layers = [f'head.layers.{n}.fc.' for n in range(3)]
    if hasattr(backbone, 'classifier'):
        layers = [f'backbone.classifier.{n}.' for n in (0, 3, 6)]
    torchvision = [rf'^classifier\.{n}\.' for n in (0, 3, 6)]
    timm = [r'^pre_logits\.fc1\.', r'^pre_logits\.fc2\.', r'^head\.fc\.']
    is_timm = _has(keys, r'pre_logits\.')
    for old, new in zip(timm if is_timm else torchvision, layers, strict=True):
        rules.append(Rule(old, new, flat))
    return _layout(_TIMM if is_timm else _TORCHVISION, rules)


def _mobile_blocks(backbone: Any) -> list[tuple[str, Any]]:
    """Names and modules of a backbone's blocks with a depthwise convolution, first to last."""
    return [
        (name, module)
        for name, module in backbone.named_modules()
        if type(module).__name__ == 'InvertedResidual'
    ]


def _timm_block(theirs: str, ours: str, parts: list[str]) -> list[Rule]:
    """Rules of a block of timm: ``parts`` are mmpretrain's names of its convolutions, in order."""
    names = {1: ['conv'], 2: ['conv_dw', 'conv_pw'], 3: ['conv_pw', 'conv_dw', 'conv_pwl']}
    rules = []
    for number, (conv, part) in enumerate(zip(names[len(parts)], parts, strict=True), start=1):
        place = f'backbone.{ours}.{part}.'
        rules.append(Rule(rf'^{re.escape(theirs)}{conv}\.', f'{place}conv.'))
        rules.append(Rule(rf'^{re.escape(theirs)}bn{number}\.', f'{place}bn.'))
    for se, conv in (('reduce', 'conv1'), ('expand', 'conv2')):
        old = rf'^{re.escape(theirs)}se\.conv_{se}\.'
        rules.append(Rule(old, f'backbone.{ours}.se.{conv}.conv.'))
    return rules


def _conv_norm(theirs: tuple[str, str], ours: str) -> list[Rule]:
    return [
        Rule(rf'^{re.escape(old)}\.', f'backbone.{ours}.{part}.')
        for old, part in zip(theirs, ('conv', 'bn'), strict=True)
    ]


def _mobilenet_v2(backbone: Any, keys: Collection[str]) -> Layout | None:
    blocks = _mobile_blocks(backbone)
    rules: list[Rule] = []
    if _has(keys, r'features\.1\.conv\.0\.0\.'):
        for theirs, (ours, block) in zip(
            _blocks(keys, r'features\.\d+\.conv\.'), blocks, strict=False
        ):
            last = len(block.conv) - 1
            for n in range(last):
                rules += _conv_norm((f'{theirs}{n}.0', f'{theirs}{n}.1'), f'{ours}.conv.{n}')
            old = (f'{theirs}{last}', f'{theirs}{last + 1}')
            rules += _conv_norm(old, f'{ours}.conv.{last}')
        final = f'features.{len(blocks) + 1}'
        rules += _conv_norm(('features.0.0', 'features.0.1'), 'conv1')
        rules += _conv_norm((f'{final}.0', f'{final}.1'), 'conv2')
        return _layout(_TORCHVISION, rules, Rule(r'^classifier\.1\.', _HEAD))
    if _has(keys, r'blocks\.0\.0\.conv_dw\.'):
        for theirs, (ours, block) in zip(
            _blocks(keys, r'blocks\.\d+\.\d+\.'), blocks, strict=False
        ):
            rules += _timm_block(theirs, ours, [f'conv.{n}' for n in range(len(block.conv))])
        rules += _conv_norm(('conv_stem', 'bn1'), 'conv1')
        rules += _conv_norm(('conv_head', 'bn2'), 'conv2')
        return _layout(_TIMM, rules, Rule(r'^classifier\.', _HEAD))
    return None


def _parts(block: Any) -> list[str]:
    return [
        part for part in ('expand_conv', 'depthwise_conv', 'linear_conv') if hasattr(block, part)
    ]


def _torchvision_block(theirs: str, ours: str, block: Any) -> list[Rule]:
    rules: list[Rule] = []
    number = 0
    for part in _parts(block):
        if part == 'linear_conv' and block.with_se:
            for n in (1, 2):
                old = rf'^{re.escape(theirs)}{number}\.fc{n}\.'
                rules.append(Rule(old, f'backbone.{ours}.se.conv{n}.conv.'))
            number += 1
        rules += _conv_norm((f'{theirs}{number}.0', f'{theirs}{number}.1'), f'{ours}.{part}')
        number += 1
    return rules


def _mobilenet_v3(backbone: Any, keys: Collection[str]) -> Layout | None:
    blocks = _mobile_blocks(backbone)
    final = f'layer{len(blocks) + 1}'
    rules: list[Rule] = []
    if _has(keys, r'features\.1\.block\.0\.0\.'):
        for theirs, (ours, block) in zip(
            _blocks(keys, r'features\.\d+\.block\.'), blocks, strict=False
        ):
            rules += _torchvision_block(theirs, ours, block)
        last = f'features.{len(blocks) + 1}'
        rules += _conv_norm(('features.0.0', 'features.0.1'), 'layer0')
        rules += _conv_norm((f'{last}.0', f'{last}.1'), final)
        head = [(r'^classifier\.0\.', 0), (r'^classifier\.3\.', 1)]
    elif _has(keys, r'blocks\.0\.0\.conv_dw\.'):
        theirs_all = _blocks(keys, r'blocks\.\d+\.\d+\.')
        for theirs, (ours, block) in zip(theirs_all, blocks, strict=False):
            rules += _timm_block(theirs, ours, _parts(block))
        last = theirs_all[-1]
        rules += _conv_norm((f'{last}conv', f'{last}bn1'), final)
        rules += _conv_norm(('conv_stem', 'bn1'), 'layer0')
        head = [(r'^conv_head\.', 0), (r'^classifier\.', 1)]
    else:
        return None
    name = _TIMM if _has(keys, 'conv_stem') else _TORCHVISION
    return _layout(name, rules, [Rule(old, f'head.layers.{n}.fc.', flat) for old, n in head])


def _efficientnet(backbone: Any, keys: Collection[str]) -> Layout | None:
    blocks = _mobile_blocks(backbone)
    final = f'layers.{len(backbone.layers) - 1}'
    rules: list[Rule] = []
    if _has(keys, r'features\.1\.0\.block\.0\.0\.'):
        for theirs, (ours, block) in zip(
            _blocks(keys, r'features\.\d+\.\d+\.block\.'), blocks, strict=False
        ):
            rules += _torchvision_block(theirs, ours, block)
        last = _blocks(keys, r'features\.\d+\b')[-1]
        rules += _conv_norm(('features.0.0', 'features.0.1'), 'layers.0')
        rules += _conv_norm((f'{last}.0', f'{last}.1'), final)
        return _layout(_TORCHVISION, rules, Rule(r'^classifier\.1\.', _HEAD))
    if _has(keys, r'blocks\.0\.0\.conv_dw\.'):
        for theirs, (ours, block) in zip(
            _blocks(keys, r'blocks\.\d+\.\d+\.'), blocks, strict=False
        ):
            rules += _timm_block(theirs, ours, _parts(block))
        rules += _conv_norm(('conv_stem', 'bn1'), 'layers.0')
        rules += _conv_norm(('conv_head', 'bn2'), final)
        return _layout(_TIMM, rules, Rule(r'^classifier\.', _HEAD))
    return None


def _convnext(backbone: Any, keys: Collection[str]) -> Layout | None:
    block = r'^backbone\.stages\.(\d)\.(\d+)\.'
    last = len(backbone.depths) - 1
    if _has(keys, r'features\.1\.0\.block\.0\.'):
        inner = {0: 'depthwise_conv', 2: 'norm', 3: 'pointwise_conv1', 5: 'pointwise_conv2'}
        rules = [
            Rule(rf'^features\.{2 * n + 1}\.', f'backbone.stages.{n}.') for n in range(last + 1)
        ]
        rules += [
            Rule(rf'^features\.{2 * n}\.', f'backbone.downsample_layers.{n}.')
            for n in range(last + 1)
        ]
        rules += [
            Rule(rf'{block}block\.{index}\.', rf'backbone.stages.\1.\2.{part}.')
            for index, part in inner.items()
        ]
        rules += [
            Rule(rf'{block}layer_scale$', r'backbone.stages.\1.\2.gamma', _vector),
            Rule(r'^classifier\.0\.', f'backbone.norm{last}.'),
            Rule(r'^classifier\.2\.', _HEAD),
        ]
        return _layout(_TORCHVISION, rules, _pointwise(backbone))
    if _has(keys, r'stages\.0\.blocks\.0\.conv_dw\.'):
        rules = [
            Rule(r'^head\.fc\.', _HEAD),
            Rule(r'^head\.norm\.', f'backbone.norm{last}.'),
            Rule(r'^stem\.', 'backbone.downsample_layers.0.'),
            Rule(r'^stages\.(\d)\.downsample\.', r'backbone.downsample_layers.\1.'),
            Rule(r'^stages\.(\d)\.blocks\.', r'backbone.stages.\1.'),
            Rule(rf'{block}conv_dw\.', r'backbone.stages.\1.\2.depthwise_conv.'),
            Rule(rf'{block}mlp\.fc(\d)\.', r'backbone.stages.\1.\2.pointwise_conv\3.'),
            Rule(rf'{block}mlp\.grn\.weight', r'backbone.stages.\1.\2.grn.gamma'),
            Rule(rf'{block}mlp\.grn\.bias', r'backbone.stages.\1.\2.grn.beta'),
        ]
        return _layout(_TIMM, rules, _pointwise(backbone))
    if _has(keys, r'stages\.0\.0\.dwconv\.'):
        rules = [
            Rule(r'^(?:stages|downsample_layers)\.', r'backbone.\g<0>'),
            Rule(rf'{block}dwconv\.', r'backbone.stages.\1.\2.depthwise_conv.'),
            Rule(rf'{block}pwconv(\d)\.', r'backbone.stages.\1.\2.pointwise_conv\3.'),
            Rule(r'^norm\.', f'backbone.norm{last}.'),
            Rule(r'^head\.(?=weight|bias)', _HEAD),
        ]
        return _layout('the original', rules, _pointwise(backbone))
    return None


def _pointwise(backbone: Any) -> Rule:
    """Rule for 1x1 convolutions, which may be linear layers there or here."""
    is_linear = isinstance(backbone.stages[0][0].pointwise_conv1, nn.Linear)
    return Rule(r'pointwise_conv\d\.weight', r'\g<0>', flat if is_linear else _wide)


def _wide(weight: Tensor) -> Tensor:
    """A linear layer as a 1x1 convolution."""
    return weight.reshape(*weight.shape[:2], 1, 1)


def _swin(backbone: Any, keys: Collection[str]) -> Layout | None:
    count = len(backbone.stages)
    block = r'^backbone\.stages\.(\d)\.blocks\.(\d+)\.'
    new = r'backbone.stages.\1.blocks.\2.'
    if _has(keys, r'features\.1\.0\.attn\.qkv'):
        rules = [Rule(r'^features\.0\.0\.', 'backbone.patch_embed.projection.')]
        rules += [Rule(r'^features\.0\.2\.', 'backbone.patch_embed.norm.')]
        for n in range(count):
            rules += [Rule(rf'^features\.{2 * n + 1}\.', f'backbone.stages.{n}.blocks.')]
            rules += [Rule(rf'^features\.{2 * n + 2}\.', f'backbone.stages.{n}.downsample.')]
        mlp = [Rule(rf'{block}mlp\.0\.', rf'{new}ffn.layers.0.0.')]
        mlp += [Rule(rf'{block}mlp\.3\.', rf'{new}ffn.layers.1.')]
        name = _TORCHVISION
    elif _has(keys, r'layers\.0\.blocks\.0\.attn\.qkv'):
        rules = [Rule(r'^patch_embed\.proj\.', 'backbone.patch_embed.projection.')]
        rules += [Rule(r'^patch_embed\.norm\.', 'backbone.patch_embed.norm.')]
        # timm counts a reduction to the stage behind it, the original code to the one before.
        behind = not _has(keys, r'layers\.0\.downsample\.')
        for n in range(count):
            place = f'backbone.stages.{n - behind}.downsample.'
            rules += [Rule(rf'^layers\.{n}\.downsample\.', place)]
            rules += [Rule(rf'^layers\.{n}\.blocks\.', f'backbone.stages.{n}.blocks.')]
        mlp = [Rule(rf'{block}mlp\.fc1\.', rf'{new}ffn.layers.0.0.')]
        mlp += [Rule(rf'{block}mlp\.fc2\.', rf'{new}ffn.layers.1.')]
        name = _TIMM if behind else 'the original'
    else:
        return None
    return _layout(
        name,
        rules,
        mlp,
        Rule(rf'{block}attn\.', rf'{new}attn.w_msa.'),
        Rule(r'downsample\.(?:norm|reduction)\.(?:weight|bias)$', r'\g<0>', _merged),
        Rule(r'^norm\.', f'backbone.norm{count - 1}.'),
        Rule(r'^head\.(?:fc\.)?(?=weight|bias)', _HEAD),
        # Numbers that follow from the sizes; mmpretrain counts them in its own order.
        dropped=r'.*(?:relative_position_index|attn_mask)$',
    )


def _vit(backbone: Any, keys: Collection[str]) -> Layout | None:
    block = r'^backbone\.layers\.(\d+)\.'
    new = r'backbone.layers.\1.'
    if _has(keys, r'encoder\.layers\.encoder_layer_0\.'):
        return _layout(
            _TORCHVISION,
            Rule(r'^class_token$', 'backbone.cls_token'),
            Rule(r'^conv_proj\.', 'backbone.patch_embed.projection.'),
            Rule(r'^encoder\.pos_embedding$', 'backbone.pos_embed'),
            Rule(r'^encoder\.ln\.', 'backbone.ln1.'),
            Rule(r'^encoder\.layers\.encoder_layer_(\d+)\.', new),
            Rule(rf'{block}ln_(\d)\.', rf'{new}ln\2.'),
            Rule(rf'{block}self_attention\.in_proj_', rf'{new}attn.qkv.'),
            Rule(rf'{block}self_attention\.out_proj\.', rf'{new}attn.proj.'),
            Rule(rf'{block}mlp\.(?:0|linear_1)\.', rf'{new}ffn.layers.0.0.'),
            Rule(rf'{block}mlp\.(?:3|linear_2)\.', rf'{new}ffn.layers.1.'),
            Rule(r'^heads\.head\.', 'head.layers.head.'),
        )
    if _has(keys, r'blocks\.0\.attn\.qkv'):
        return _layout(
            'timm, DeiT',
            Rule(r'^(?:cls_token|pos_embed|dist_token)$', r'backbone.\g<0>'),
            Rule(r'^patch_embed\.proj\.', 'backbone.patch_embed.projection.'),
            Rule(r'^norm\.', 'backbone.ln1.'),
            Rule(r'^blocks\.(\d+)\.', new),
            Rule(rf'{block}norm(\d)\.', rf'{new}ln\2.'),
            Rule(rf'{block}mlp\.fc1\.', rf'{new}ffn.layers.0.0.'),
            Rule(rf'{block}mlp\.fc2\.', rf'{new}ffn.layers.1.'),
            Rule(r'^(head|head_dist)\.(?=weight|bias)', r'head.layers.\1.'),
        )
    return None


def _regnet(backbone: Any, keys: Collection[str]) -> Layout | None:
    if _has(keys, r'trunk_output\.block1\.block1-0\.'):
        rules = [
            Rule(r'^stem\.0\.', 'backbone.conv1.'),
            Rule(r'^stem\.1\.', 'backbone.bn1.'),
            Rule(r'^trunk_output\.block(\d)\.block\d-(\d+)\.', r'backbone.layer\1.\2.'),
            Rule(r'\.proj\.', '.downsample.'),
        ]
        for number, letter in enumerate('abc', start=1):
            rules += [Rule(rf'\.f\.{letter}\.0\.', f'.conv{number}.')]
            rules += [Rule(rf'\.f\.{letter}\.1\.', f'.bn{number}.')]
        return _layout(_TORCHVISION, rules, Rule(r'^fc\.', _HEAD))
    if _has(keys, r's1\.b1\.conv1\.conv\.'):
        blocks = [
            Rule(rf'^s{stage}\.b{number}\.', f'backbone.layer{stage}.{number - 1}.')
            for stage, depth in enumerate(backbone.stage_blocks, start=1)
            for number in range(1, depth + 1)
        ]
        return _layout(
            _TIMM,
            blocks,
            Rule(r'^stem\.conv\.', 'backbone.conv1.'),
            Rule(r'^stem\.bn\.', 'backbone.bn1.'),
            Rule(r'\.conv(\d)\.conv\.', r'.conv\1.'),
            Rule(r'\.conv(\d)\.bn\.', r'.bn\1.'),
            Rule(r'\.downsample\.conv\.', '.downsample.0.'),
            Rule(r'\.downsample\.bn\.', '.downsample.1.'),
            Rule(r'^head\.fc\.', _HEAD),
        )
    return None


def _densenet(backbone: Any, keys: Collection[str]) -> Layout | None:
    if not _has(keys, r'features\.denseblock1\.denselayer1\.'):
        return None
    stages = len(backbone.depths)
    rules = []
    for n in range(1, stages + 1):
        rules += [Rule(rf'^features\.transition{n}\.', f'backbone.transitions.{n - 1}.')]
        for layer in range(1, backbone.depths[n - 1] + 1):
            old = rf'^features\.denseblock{n}\.denselayer{layer}\.'
            rules += [Rule(old, f'backbone.stages.{n - 1}.block.{layer - 1}.')]
    return _layout(
        'torchvision, timm',
        rules,
        Rule(r'^features\.conv0\.', 'backbone.stem.0.'),
        Rule(r'^features\.norm0\.', 'backbone.stem.1.'),
        Rule(rf'^features\.norm{stages + 1}\.', f'backbone.transitions.{stages - 1}.0.'),
        Rule(r'\.(norm|conv)\.(\d)\.', r'.\1\2.'),  # of files before torchvision 0.4
        Rule(r'^classifier\.', _HEAD),
    )


# By the class of the backbone, or of what it inherits from.
FAMILIES: dict[str, Family] = {
    'RegNet': _regnet,
    'ResNet': _resnet,
    'VGG': _vgg,
    'MobileNetV2': _mobilenet_v2,
    'MobileNetV3': _mobilenet_v3,
    'EfficientNet': _efficientnet,
    'ConvNeXt': _convnext,
    'SwinTransformer': _swin,
    'VisionTransformer': _vit,
    'DenseNet': _densenet,
}


def foreign_layout(backbone: nn.Module, keys: Collection[str]) -> Layout | None:
    """Return the layout of a file for a backbone, None if it is unknown.

    Args:
        backbone: mmpretrain's, or one that inherits from it.
        keys: Names of the weights in the file.
    """
    for kind in type(backbone).__mro__:
        if kind.__name__ in FAMILIES:
            return FAMILIES[kind.__name__](backbone, keys)
    return None
