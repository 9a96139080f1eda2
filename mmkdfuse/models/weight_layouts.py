"""Names of the networks' parameters in the reference codes.

A layout is a table of rules, one for each way in which a code names a network's parameters;
``LAYOUTS`` says in which layouts a network is published.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mmkdfuse.models.backbones import VGG, VGG_CIFAR


class Rule(NamedTuple):
    """One step of renaming.

    Attributes:
        pattern: Regular expression, searched in the name as the rules before left it.
        replacement: Text in place of a match.
        transform: Changes a matching weight; None leaves it.
    """

    pattern: str
    replacement: str
    transform: Callable[[Tensor], Tensor] | None = None


class Layout(NamedTuple):
    """Names of a network's parameters in a reference code.

    Attributes:
        name: Its origin, for messages.
        marker: Regular expression that some name of this layout, and of no other layout of the
            same network, begins with.
        rules: Applied in order, each to the result of those before.
        dropped: Regular expression for the beginnings of names that the plain network does not
            have.
    """

    name: str
    marker: str
    rules: tuple[Rule, ...]
    dropped: str | None = None


def flat(weight: Tensor) -> Tensor:
    """A convolution over the whole map (O, I, H, W) as a linear layer; a bias as it is."""
    return weight.flatten(1) if weight.dim() == 4 else weight


def _dense(weight: Tensor) -> Tensor:
    """A 1x1 convolution of 32 groups (O, I/32, 1, 1) as one of a single group (O, I, 1, 1)."""
    if weight.dim() != 4:
        return weight
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
        Rule(r'^conv10\.', 'head.fc.', flat),
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


def _repdistiller(marker: str, *rules: Rule) -> Layout:
    """The layout of RepDistiller, which SimKD, mdistiller and MFAKD share."""
    return Layout('RepDistiller', marker, rules)


def _repdistiller_wrn(depth: int) -> Layout:
    blocks = (depth - 4) // 6
    return _repdistiller(
        r'block1\.layer\.',
        Rule(r'^conv1\.', 'backbone.stem.'),
        Rule(r'^bn1\.', f'backbone.layer3.{blocks}.'),
        Rule(r'^block(\d)\.layer\.', r'backbone.layer\1.'),
        Rule(r'\.convShortcut\.', '.shortcut.'),
        _FC,
    )


def _repdistiller_vgg(depth: int, has_norm: bool) -> Layout:
    rules = []
    ours = 0
    layers = 3 if has_norm else 2  # with the ReLU
    for block, convolutions in enumerate(VGG_CIFAR.arch_settings[depth]):
        for number in range(convolutions):
            for offset, part in enumerate(('conv', 'bn')[: layers - 1]):
                theirs = rf'^block{block}\.{layers * number + offset}\.'
                rules.append(Rule(theirs, f'backbone.features.{ours}.{part}.'))
            ours += 1
        ours += 1  # the pool
    return _repdistiller(r'block0\.0\.', *rules, Rule(r'^classifier\.', 'head.fc.'))


def _side_by_side(unit: str, *sides: tuple[str, tuple[int, ...]]) -> list[Rule]:
    """Rules for the numbered convolutions of a unit: the places that they have in our two sides.

    The batch norm of a convolution follows it.
    """
    places = [f'{side}.{place}' for side, found in sides for place in found]
    norms = [f'{side}.{place + 1}' for side, found in sides for place in found]
    return [
        Rule(rf'^(layer\d\.{unit})\.{kind}{number}\.', rf'\1.{place}.')
        for kind, found in (('conv', places), ('bn', norms))
        for number, place in enumerate(found, start=1)
    ]


_LINEAR = Rule(r'^linear\.', 'head.fc.')
_STEM = (Rule(r'^conv1\.', 'backbone.stem.0.'), Rule(r'^bn1\.', 'backbone.stem.1.'))
_LAYERS = Rule(r'^layer\d\.', r'backbone.\g<0>')

_REPDISTILLER_RESNET = _repdistiller(
    r'layer1\.0\.conv1\.', Rule(r'^(?:conv1|bn1|layer\d)\.', r'backbone.\g<0>'), _FC
)
_REPDISTILLER_SHUFFLENET_V1 = _repdistiller(r'layer1\.0\.conv3\.', *_STEM, _LAYERS, _LINEAR)
_REPDISTILLER_SHUFFLENET_V2 = _repdistiller(
    r'layer1\.0\.conv5\.',
    *_side_by_side('0', ('left', (0, 2)), ('right', (0, 3, 5))),
    *_side_by_side(r'[1-9]', ('right', (0, 3, 5))),
    *_STEM,
    _LAYERS,
    Rule(r'^(conv|bn)2\.', r'neck.\1.'),
    _LINEAR,
)
# Seven groups of blocks, two of them in every stage but the second.
_REPDISTILLER_MOBILENET_V2 = _repdistiller(
    r'blocks\.0\.0\.conv\.',
    Rule(r'^conv1\.', 'backbone.stem.'),
    *(
        Rule(rf'^blocks\.{theirs}\.', f'backbone.layer{stage}.{group}.')
        for theirs, (stage, group) in enumerate(
            [(1, 0), (1, 1), (2, 0), (3, 0), (3, 1), (4, 0), (4, 1)]
        )
    ),
    Rule(r'^conv2\.0\.', 'neck.conv.'),
    Rule(r'^conv2\.1\.', 'neck.bn.'),
    Rule(r'^classifier\.0\.', 'head.fc.'),
)

LAYOUTS: dict[str, tuple[Layout, ...]] = {
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
    'wrn40_1': (_repdistiller_wrn(40),),
    'wrn40_2': (_repdistiller_wrn(40),),
    'wrn16_2': (_repdistiller_wrn(16),),
    'vgg8': (_repdistiller_vgg(8, has_norm=True),),
    **{f'vgg{n}_nobn': (_repdistiller_vgg(n, has_norm=False),) for n in (11, 16, 19)},
    **{f'vgg{n}_bn': (_repdistiller_vgg(n, has_norm=True),) for n in (11, 16, 19)},
    'shufflenet_v1': (_REPDISTILLER_SHUFFLENET_V1,),
    'shufflenet_v2': (_REPDISTILLER_SHUFFLENET_V2,),
    'shufflenet_v2_x1_5': (_REPDISTILLER_SHUFFLENET_V2,),
    'mobilenet_v2': (_REPDISTILLER_MOBILENET_V2,),
    'mobilenet_v2_x2': (_REPDISTILLER_MOBILENET_V2,),
    **dict.fromkeys(
        (
            *('resnet8x4', 'resnet32x4', 'resnet110', 'resnet116', 'resnet110x2'),
            *('resnet14x2', 'resnet38', 'resnet38x2', 'resnet10', 'resnet34_in', 'resnet50_in'),
        ),
        (_REPDISTILLER_RESNET,),
    ),
}
