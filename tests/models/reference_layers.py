"""Layers of the published networks as functions of their weights, in evaluation mode."""

import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


def conv(state: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = state[f'{name}.weight']
    groups = x.shape[1] // weight.shape[1]
    padding = weight.shape[-1] // 2
    return F.conv2d(x, weight, state.get(f'{name}.bias'), stride, padding, groups=groups)


def bn(state: State, name: str, x: Tensor) -> Tensor:
    mean, var, weight, bias = (
        state[f'{name}.{part}'] for part in ('running_mean', 'running_var', 'weight', 'bias')
    )
    return F.batch_norm(x, mean, var, weight, bias, eps=1e-5)


def conv_bn_relu(state: State, conv_name: str, bn_name: str, x: Tensor, stride: int = 1) -> Tensor:
    return F.relu(bn(state, bn_name, conv(state, conv_name, x, stride)))


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f'{name}.weight'], state[f'{name}.bias'])


def classify(state: State, name: str, feature_map: Tensor) -> tuple[Tensor, Tensor]:
    """A map and the logits that a linear layer gives for its mean."""
    return feature_map, linear(state, name, feature_map.mean((2, 3)))


def residual_block(
    state: State, x: Tensor, name: str, layers: list[tuple[str, str]], shortcut: str, stride: int
) -> Tensor:
    """A basic block of two 3x3 convolutions, or 1x1, 3x3, 1x1; the first 3x3 one strides."""
    pairs = [(name + conv, name + bn) for conv, bn in layers if f'{name}{conv}.weight' in state]
    strided = 0 if len(pairs) == 2 else 1
    out = x
    for index, (conv_name, bn_name) in enumerate(pairs):
        out = bn(state, bn_name, conv(state, conv_name, out, stride if index == strided else 1))
        if index < len(pairs) - 1:
            out = F.relu(out)
    if f'{name}{shortcut}.0.weight' in state:
        x = bn(state, f'{name}{shortcut}.1', conv(state, f'{name}{shortcut}.0', x, stride))
    return F.relu(out + x)


def torchvision_resnet(state: State, x: Tensor, classifier: str) -> tuple[Tensor, Tensor]:
    """A ResNet under the names of torchvision, with its stem or one of stride 1 without pool."""
    if state['conv1.weight'].shape[-1] == 7:
        x = F.max_pool2d(conv_bn_relu(state, 'conv1', 'bn1', x, 2), 3, 2, padding=1)
    else:
        x = conv_bn_relu(state, 'conv1', 'bn1', x)
    layers = [(f'conv{number}', f'bn{number}') for number in (1, 2, 3)]
    stage, block = 1, 0
    while f'layer{stage}.0.conv1.weight' in state:
        name = f'layer{stage}.{block}.'
        if f'{name}conv1.weight' not in state:
            stage, block = stage + 1, 0
            continue
        stride = 2 if stage > 1 and block == 0 else 1
        x = residual_block(state, x, name, layers, 'downsample', stride)
        block += 1
    return classify(state, classifier, x)
