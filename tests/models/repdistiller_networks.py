"""The networks of RepDistiller, SimKD and MFAKD as functions of their published weights."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from reference_layers import State, bn, classify, conv, conv_bn_relu, torchvision_resnet
from torch import Tensor

# Stride and expansion are not in the weights: MobileNetV2's groups of blocks stride so.
MOBILENET_STRIDES = (1, 1, 2, 2, 1, 2, 1)


def repdistiller_output(network: str, state: State, images: Tensor) -> tuple[Tensor, Tensor]:
    """Last stage map and logits of a network by its name in that code."""
    if network.startswith('wrn'):
        return _wrn(state, images)
    if network.startswith('vgg'):
        return _vgg(state, images)
    if network == 'ShuffleV1':
        return _shufflenet_v1(state, images)
    if network.startswith('ShuffleV2'):
        return _shufflenet_v2(state, images)
    if network.startswith('MobileNetV2'):
        return _mobilenet_v2(state, images)
    return torchvision_resnet(state, images, 'fc')


def _numbered(state: State, pattern: str) -> Iterator[str]:
    """Names ``pattern.format(0)``, ``pattern.format(1)``, .. as long as there are weights."""
    number = 0
    while any(key.startswith(pattern.format(number)) for key in state):
        yield pattern.format(number)
        number += 1


def _wrn(state: State, x: Tensor) -> tuple[Tensor, Tensor]:
    x = conv(state, 'conv1', x)
    for stage in (1, 2, 3):
        for block in _numbered(state, f'block{stage}.layer.{{}}.'):
            stride = 2 if stage > 1 and block.endswith('.0.') else 1
            active = F.relu(bn(state, f'{block}bn1', x))
            if f'{block}convShortcut.weight' in state:
                x = conv(state, f'{block}convShortcut', active, stride)
            inner = conv_bn_relu(state, f'{block}conv1', f'{block}bn2', active, stride)
            x = x + conv(state, f'{block}conv2', inner)
    return classify(state, 'fc', F.relu(bn(state, 'bn1', x)))


def _vgg(state: State, x: Tensor) -> tuple[Tensor, Tensor]:
    height = x.shape[2]
    for block in range(5):
        kernels = [
            key.removesuffix('.weight')
            for key, value in state.items()
            if key.startswith(f'block{block}.') and value.dim() == 4
        ]
        for name in kernels:
            index = int(name.split('.')[1])
            x = conv(state, name, x)
            if f'block{block}.{index + 1}.running_mean' in state:
                x = bn(state, f'block{block}.{index + 1}', x)
            x = F.relu(x)
        if block < 3 or (block == 3 and height == 64):
            x = F.max_pool2d(x, 2)
    return classify(state, 'classifier', x)


def _shuffle(x: Tensor, groups: int) -> Tensor:
    order = torch.arange(x.shape[1]).reshape(groups, -1).T.flatten()
    return x[:, order]


def _shufflenet_v1(state: State, x: Tensor) -> tuple[Tensor, Tensor]:
    x = conv_bn_relu(state, 'conv1', 'bn1', x)
    for stage in (1, 2, 3):
        for unit in _numbered(state, f'layer{stage}.{{}}.'):
            stride = 2 if unit.endswith('.0.') else 1
            groups = x.shape[1] // state[f'{unit}conv1.weight'].shape[1]
            out = conv_bn_relu(state, f'{unit}conv1', f'{unit}bn1', x)
            out = _shuffle(out, groups)
            out = conv_bn_relu(state, f'{unit}conv2', f'{unit}bn2', out, stride)
            out = bn(state, f'{unit}bn3', conv(state, f'{unit}conv3', out))
            if stride == 2:
                out = torch.cat([out, F.avg_pool2d(x, 3, 2, padding=1)], 1)
            else:
                out = out + x
            x = F.relu(out)
    return classify(state, 'linear', x)


def _shufflenet_v2(state: State, x: Tensor) -> tuple[Tensor, Tensor]:
    x = conv_bn_relu(state, 'conv1', 'bn1', x)
    for stage in (1, 2, 3):
        for unit in _numbered(state, f'layer{stage}.{{}}.'):
            if unit.endswith('.0.'):
                left = bn(state, f'{unit}bn1', conv(state, f'{unit}conv1', x, 2))
                left = conv_bn_relu(state, f'{unit}conv2', f'{unit}bn2', left)
                right, first, stride = x, 3, 2
            else:
                half = x.shape[1] // 2
                left, right, first, stride = x[:, :half], x[:, half:], 1, 1
            names = [(f'{unit}conv{n}', f'{unit}bn{n}') for n in range(first, first + 3)]
            right = conv_bn_relu(state, *names[0], right)
            right = bn(state, names[1][1], conv(state, names[1][0], right, stride))
            right = conv_bn_relu(state, *names[2], right)
            x = _shuffle(torch.cat([left, right], 1), 2)
    _, logits = classify(state, 'linear', conv_bn_relu(state, 'conv2', 'bn2', x))
    return x, logits


def _mobilenet_v2(state: State, x: Tensor) -> tuple[Tensor, Tensor]:
    x = conv_bn_relu(state, 'conv1.0', 'conv1.1', x, 2)
    for group, group_stride in enumerate(MOBILENET_STRIDES):
        for block in _numbered(state, f'blocks.{group}.{{}}.conv.'):
            stride = group_stride if f'.{group}.0.' in block else 1
            out = conv_bn_relu(state, f'{block}0', f'{block}1', x)
            out = conv_bn_relu(state, f'{block}3', f'{block}4', out, stride)
            out = bn(state, f'{block}7', conv(state, f'{block}6', out))
            x = out + x if stride == 1 and out.shape == x.shape else out
    _, logits = classify(state, 'classifier.0', conv_bn_relu(state, 'conv2.0', 'conv2.1', x))
    return x, logits
