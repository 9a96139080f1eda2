import warnings

import pytest
import torch
from mmpretrain.models import ImageClassifier
from torch import nn

from mmkdfuse.analysis.cost import Cost, count_cost


def resnet18(num_classes):
    return ImageClassifier(
        backbone=dict(type='mmpretrain.ResNet_CIFAR', depth=18),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=num_classes, in_channels=512),
        data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor'),
    )


def test_resnet18_with_100_classes_costs_what_the_paper_prints():
    cost = count_cost(resnet18(100), (3, 32, 32))
    assert cost == Cost(parameters=11_220_132, macs=555_468_800)
    assert str(cost) == '11,220,132 parameters, 555.5 M MACs'


@pytest.mark.parametrize(
    'module, shape, macs',
    [
        (nn.Conv2d(3, 8, 3, padding=1, bias=True), (3, 6, 5), 3 * 9 * 8 * 6 * 5),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), (8, 6, 6), 9 * 8 * 6 * 6),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 7)), (3, 2, 2), 12 * 7),
        (nn.Sequential(nn.BatchNorm2d(3), nn.AvgPool2d(2), nn.ReLU()), (3, 8, 8), 0),
    ],
)
def test_counts_by_hand(module, shape, macs):
    assert count_cost(module, shape).macs == macs
    assert count_cost(module, (4, *shape)).macs == 4 * macs


class Attention(nn.Module):
    def __init__(self, fused):
        super().__init__()
        self.fused = fused

    def forward(self, x):
        q, k, v = x[:, :, :5], x[:, :, :7], x[:, :, :7, :6]
        if self.fused:
            return nn.functional.scaled_dot_product_attention(q, k, v)
        return (q @ k.transpose(-2, -1)).softmax(-1) @ v


@pytest.mark.parametrize('fused', [True, False])
def test_attention_counts_both_products(fused):
    # 2 heads, 5 queries, 7 keys, width 9 for the scores and 6 for the values
    assert count_cost(Attention(fused), (2, 8, 9)).macs == 2 * 5 * 7 * (9 + 6)


def test_leaves_no_trace(recwarn):
    model = resnet18(10)
    model.train()
    model.backbone.layer1.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        count_cost(model, (3, 32, 32))
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize('shape', [(32, 32), (3, 0, 32), (1, 1, 3, 32, 32)])
def test_refuses_a_shape_that_is_no_image(shape):
    with pytest.raises(ValueError, match='input_shape='):
        count_cost(nn.Identity(), shape)
