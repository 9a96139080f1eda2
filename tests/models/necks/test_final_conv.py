"""The convolution between the last stage and the classifier."""

import torch
from torch import nn

from mmkdfuse.models.necks.final_conv import FinalConv
from mmkdfuse.registry import MODELS


def test_values_are_means_of_the_activated_convolution():
    torch.manual_seed(0)
    neck = FinalConv(3, 5)
    nn.init.uniform_(neck.bn.running_mean)
    nn.init.uniform_(neck.bn.running_var, 0.5, 2)
    neck.eval()
    last = torch.randn(2, 3, 4, 6)
    (found,) = neck((torch.zeros(2, 9, 8, 8), last))
    x = torch.einsum('oi,nihw->nohw', neck.conv.weight[..., 0, 0], last)
    mean, scale = neck.bn.running_mean, (neck.bn.running_var + 1e-5).rsqrt()
    x = (x - mean[:, None, None]) * scale[:, None, None]
    torch.testing.assert_close(found, x.clamp(min=0).mean((2, 3)))


def test_it_is_found_in_the_registry():
    neck = MODELS.build(dict(type='mmkdfuse.FinalConv', in_channels=4, out_channels=6))
    assert neck.out_channels == 6 and neck((torch.zeros(2, 4, 1, 1),))[0].shape == (2, 6)
