"""The published networks, as the names and shapes of their weights and as plain functions of them.

``reference_keys/NAME.txt`` lists the layers of a published file in order: name, shape of the
weight, and ``bias`` or ``bn`` where the layer has more than a weight. The functions follow the
structures in the papers and know nothing of the package. ``s_``: the code of a self-distillation
paper; ``w_``: weiaicunzai's; ``r_``: RepDistiller's, which SimKD and MFAKD share.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from reference_layers import (
    State,
    classify,
    conv,
    conv_bn_relu,
    linear,
    residual_block,
    torchvision_resnet,
)
from repdistiller_networks import repdistiller_output
from torch import Tensor

FOLDER = Path(__file__).parent / 'reference_keys'
BLOCKS = {
    'resnet18': (2, 2, 2, 2),
    'resnet34': (3, 4, 6, 3),
    'resnet50': (3, 4, 6, 3),
    'resnext50': (3, 4, 6, 3),
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


def reference_output(file: str, state: State, images: Tensor) -> tuple[Tensor, Tensor]:
    """Last stage map (N, C, H, W) and logits (N, K) of a network in evaluation mode.

    Where a network has a convolution behind its last stage, the map is the one before it.
    """
    source, network = file.split('_', 1)
    if source == 'r':
        return repdistiller_output(network, state, images)
    if network.startswith('vgg'):
        return _vgg(state, images, BLOCKS[network])
    if network == 'squeezenet':
        return _squeezenet(state, images)
    if network == 'mobilenet':
        return _mobilenet(state, images)
    if source == 's':
        return torchvision_resnet(state, images, 'fc4')
    suffix, container = (
        ('', 'split_transforms') if network == 'resnext50' else ('_x', 'residual_function')
    )
    return _resnet(
        state,
        conv_bn_relu(state, 'conv1.0', 'conv1.1', images),
        [
            [f'conv{stage + 2}{suffix}.{block}.' for block in range(blocks)]
            for stage, blocks in enumerate(BLOCKS[network])
        ],
        [(f'{container}.{index}', f'{container}.{index + 1}') for index in (0, 3, 6)],
        'shortcut',
        'fc',
    )


def _resnet(
    state: State,
    x: Tensor,
    stages: list[list[str]],
    layers: list[tuple[str, str]],
    shortcut: str,
    classifier: str,
) -> tuple[Tensor, Tensor]:
    for stage, blocks in enumerate(stages):
        for block in blocks:
            stride = 2 if stage > 0 and block == blocks[0] else 1
            x = residual_block(state, x, block, layers, shortcut, stride)
    return classify(state, classifier, x)


def _vgg(state: State, x: Tensor, blocks: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    index = 0
    for convolutions in blocks:
        for _ in range(convolutions):  # convolution, batch norm, ReLU
            x = conv_bn_relu(state, f'features.{index}', f'features.{index + 1}', x)
            index += 3
        x = F.max_pool2d(x, 2)
        index += 1
    features = F.relu(linear(state, 'classifier.0', x.mean((2, 3))))  # dropout follows
    features = F.relu(linear(state, 'classifier.3', features))
    return x, linear(state, 'classifier.6', features)


def _squeezenet(state: State, x: Tensor) -> tuple[Tensor, Tensor]:
    def layer(name: str, x: Tensor) -> Tensor:
        return conv_bn_relu(state, f'{name}.0', f'{name}.1', x)

    x = F.max_pool2d(layer('stem', x), 2)
    for number in range(2, 10):
        squeezed = layer(f'fire{number}.squeeze', x)
        sides = [layer(f'fire{number}.expand_{k}', squeezed) for k in ('1x1', '3x3')]
        x = torch.cat(sides, 1) + (x if number in (3, 5, 7) else 0)
        if number in (4, 8):
            x = F.max_pool2d(x, 2)
    return x, conv(state, 'conv10', x).mean((2, 3))


def _mobilenet(state: State, x: Tensor) -> tuple[Tensor, Tensor]:
    x = conv_bn_relu(state, 'stem.0.conv', 'stem.0.bn', x)
    for name, stride in _mobilenet_blocks():
        x = conv_bn_relu(state, f'{name}.depthwise.0', f'{name}.depthwise.1', x, stride)
        x = conv_bn_relu(state, f'{name}.pointwise.0', f'{name}.pointwise.1', x)
    return classify(state, 'fc', x)


def _mobilenet_blocks() -> Iterator[tuple[str, int]]:
    yield 'stem.1', 1
    for stage, blocks in enumerate((2, 2, 6, 2), start=1):
        for block in range(blocks):
            yield f'conv{stage}.{block}', 2 if block == 0 else 1
