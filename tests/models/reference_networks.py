"""The published networks, as the names and shapes of their weights and as plain functions of them.

``reference_keys/NAME.txt`` lists the layers of a published file in order: name, shape of the
weight, and ``bias`` or ``bn`` where the layer has more than a weight. The functions follow the
structures in the papers and know nothing of the package.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
FOLDER = Path(__file__).parent / 'reference_keys'
BLOCKS = {
    'resnet18': (2, 2, 2, 2),
    'resnet34': (3, 4, 6, 3),
    'resnet50': (3, 4, 6, 3),
    'wide_resnet50_2': (3, 4, 6, 3),
    'resnext50': (3, 4, 6, 3),
    'resnext50_32x4d': (3, 4, 6, 3),
    'vgg11_bn': (1, 1, 2, 2, 2),
    'vgg16_bn': (2, 2, 3, 3, 3),
    'vgg19_bn': (2, 2, 4, 4, 4),
}


def random_state(file: str, seed: int = 0) -> State:
    """Random weights and batch-norm statistics under the names of a published file."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(shape).uniform_(low, high, generator=generator)

    state = {}
    for line in (FOLDER / f'{file}.txt').read_text().splitlines():
        name, *rest = line.split()
        kind = rest.pop() if rest[-1] in ('bias', 'bn') else ''
        shape = [int(size) for size in rest]
        if kind == 'bn':
            state[f'{name}.weight'] = uniform(0.5, 1, *shape)
            state[f'{name}.bias'] = uniform(-0.2, 0.2, *shape)
            state[f'{name}.running_mean'] = uniform(-0.2, 0.2, *shape)
            state[f'{name}.running_var'] = uniform(0.5, 2, *shape)
            state[f'{name}.num_batches_tracked'] = torch.tensor(7)
            continue
        bound = (6 / torch.Size(shape[1:]).numel()) ** 0.5
        state[f'{name}.weight'] = uniform(-bound, bound, *shape)
        if kind == 'bias':
            state[f'{name}.bias'] = uniform(-0.2, 0.2, shape[0])
    return state


def reference_logits(file: str, state: State, images: Tensor) -> Tensor:
    """Logits (N, K) of the network of ``file`` in evaluation mode."""
    source, network = file.split('_', 1)
    if network.startswith('vgg'):
        return _vgg(state, images, BLOCKS[network])
    if network == 'squeezenet':
        return _squeezenet(state, images)
    if network == 'mobilenet':
        return _mobilenet(state, images)
    if source == 's':
        return _resnet(
            state,
            images,
            ('conv1', 'bn1'),
            [
                [f'layer{stage + 1}.{block}.' for block in range(blocks)]
                for stage, blocks in enumerate(BLOCKS[network])
            ],
            [('conv1', 'bn1'), ('conv2', 'bn2'), ('conv3', 'bn3')],
            'downsample',
            'fc4',
        )
    suffix, container = (
        ('', 'split_transforms') if network == 'resnext50' else ('_x', 'residual_function')
    )
    return _resnet(
        state,
        images,
        ('conv1.0', 'conv1.1'),
        [
            [f'conv{stage + 2}{suffix}.{block}.' for block in range(blocks)]
            for stage, blocks in enumerate(BLOCKS[network])
        ],
        [(f'{container}.{index}', f'{container}.{index + 1}') for index in (0, 3, 6)],
        'shortcut',
        'fc',
    )


def _conv(state: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = state[f'{name}.weight']
    groups = x.shape[1] // weight.shape[1]
    padding = weight.shape[-1] // 2
    return F.conv2d(x, weight, state.get(f'{name}.bias'), stride, padding, groups=groups)


def _bn(state: State, name: str, x: Tensor) -> Tensor:
    mean, var, weight, bias = (
        state[f'{name}.{part}'] for part in ('running_mean', 'running_var', 'weight', 'bias')
    )
    return F.batch_norm(x, mean, var, weight, bias, eps=1e-5)


def _conv_bn_relu(state: State, conv: str, bn: str, x: Tensor, stride: int = 1) -> Tensor:
    return F.relu(_bn(state, bn, _conv(state, conv, x, stride)))


def _linear(state: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f'{name}.weight'], state[f'{name}.bias'])


def _resnet(
    state: State,
    x: Tensor,
    stem: tuple[str, str],
    stages: list[list[str]],
    layers: list[tuple[str, str]],
    shortcut: str,
    classifier: str,
) -> Tensor:
    x = _conv_bn_relu(state, *stem, x)
    for stage, blocks in enumerate(stages):
        for block in blocks:
            stride = 2 if stage > 0 and block == blocks[0] else 1
            x = _block(state, x, block, layers, shortcut, stride)
    return _linear(state, classifier, x.mean((2, 3)))


def _block(
    state: State, x: Tensor, name: str, layers: list[tuple[str, str]], shortcut: str, stride: int
) -> Tensor:
    """A basic block of two 3x3 convolutions, or 1x1, 3x3, 1x1; the first 3x3 one strides."""
    pairs = [(name + conv, name + bn) for conv, bn in layers if f'{name}{conv}.weight' in state]
    strided = 0 if len(pairs) == 2 else 1
    out = x
    for index, (conv, bn) in enumerate(pairs):
        out = _bn(state, bn, _conv(state, conv, out, stride if index == strided else 1))
        if index < len(pairs) - 1:
            out = F.relu(out)
    if f'{name}{shortcut}.0.weight' in state:
        x = _bn(state, f'{name}{shortcut}.1', _conv(state, f'{name}{shortcut}.0', x, stride))
    return F.relu(out + x)


def _vgg(state: State, x: Tensor, blocks: tuple[int, ...]) -> Tensor:
    index = 0
    for convolutions in blocks:
        for _ in range(convolutions):  # convolution, batch norm, ReLU
            x = _conv_bn_relu(state, f'features.{index}', f'features.{index + 1}', x)
            index += 3
        x = F.max_pool2d(x, 2)
        index += 1
    x = x.mean((2, 3))
    x = F.relu(_linear(state, 'classifier.0', x))  # dropout follows
    x = F.relu(_linear(state, 'classifier.3', x))
    return _linear(state, 'classifier.6', x)


def _squeezenet(state: State, x: Tensor) -> Tensor:
    def layer(name: str, x: Tensor) -> Tensor:
        return _conv_bn_relu(state, f'{name}.0', f'{name}.1', x)

    x = F.max_pool2d(layer('stem', x), 2)
    for number in range(2, 10):
        squeezed = layer(f'fire{number}.squeeze', x)
        sides = [layer(f'fire{number}.expand_{k}', squeezed) for k in ('1x1', '3x3')]
        x = torch.cat(sides, 1) + (x if number in (3, 5, 7) else 0)
        if number in (4, 8):
            x = F.max_pool2d(x, 2)
    return _conv(state, 'conv10', x).mean((2, 3))


def _mobilenet(state: State, x: Tensor) -> Tensor:
    x = _conv_bn_relu(state, 'stem.0.conv', 'stem.0.bn', x)
    for name, stride in _mobilenet_blocks():
        x = _conv_bn_relu(state, f'{name}.depthwise.0', f'{name}.depthwise.1', x, stride)
        x = _conv_bn_relu(state, f'{name}.pointwise.0', f'{name}.pointwise.1', x)
    return _linear(state, 'fc', x.mean((2, 3)))


def _mobilenet_blocks() -> Iterator[tuple[str, int]]:
    yield 'stem.1', 1
    for stage, blocks in enumerate((2, 2, 6, 2), start=1):
        for block in range(blocks):
            yield f'conv{stage}.{block}', 2 if block == 0 else 1
