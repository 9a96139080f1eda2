"""Branches of BYOT: shapes, cost of the published modules, what every branch sees."""

import pytest
import torch
from torch import nn

from mmkdfuse.models.necks import BYOTNeck
from mmkdfuse.models.necks.byot_neck import Attention

SHAPES = [(8, 32, 32), (16, 16, 16), (24, 8, 8), (32, 4, 4)]
FORMS = ('conference', 'journal')


def stages(shapes=SHAPES, count=2):
    return [torch.randn(count, *shape) for shape in shapes]


def sepconv_parameters(c_in, c_out):
    """DW3x3, PW, BN, DW3x3, PW, BN, without biases."""
    return 18 * c_in + c_in**2 + c_in * c_out + 2 * c_in + 2 * c_out


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize(
    'shapes',
    [
        SHAPES,
        SHAPES[:2],
        [(8, 33, 17), (16, 17, 9), (24, 9, 5)],
        [(8, 32, 32), (16, 8, 8), (16, 8, 8)],
        [(8, 4, 4), (16, 2, 2), (24, 1, 1)],
    ],
    ids=str,
)
def test_every_branch_ends_as_wide_as_the_last_stage(form, shapes):
    neck = BYOTNeck(shapes, form=form).eval()
    features = neck(stages(shapes))
    assert len(features) == neck.num_features == len(shapes)
    assert {tuple(f.shape) for f in features} == {(2, shapes[-1][0])}


def test_size_of_the_journal_form():
    neck = BYOTNeck(SHAPES, form='journal')
    channels = [shape[0] for shape in SHAPES]
    for index, branch in enumerate(neck.branches):
        chain = sum(sepconv_parameters(*channels[i : i + 2]) for i in range(index, 3))
        attention = sepconv_parameters(channels[index], channels[index]) + 2 * channels[index]
        assert sum(p.numel() for p in branch.parameters()) == chain + attention


def test_the_conference_form_reduces_in_one_convolution():
    neck = BYOTNeck(SHAPES, form='conference')
    for index, branch in enumerate(neck.branches):
        kernels = [m.kernel_size for m in branch.modules() if isinstance(m, nn.Conv2d)]
        ratio = 2 ** (3 - index)
        assert kernels == [(1, 1), (ratio, ratio), (1, 1)]
        assert branch.layers(torch.zeros(1, *SHAPES[index])).shape[1:] == SHAPES[-1]


def test_the_mask_of_the_attention_lies_between_a_half_and_one():
    attention = Attention(6).eval()
    x = torch.rand(2, 6, 7, 5) + 0.1
    mask = attention(x) / x
    assert mask.shape == x.shape and 0.5 <= mask.min() and mask.max() < 1


@pytest.mark.parametrize('form', FORMS)
def test_a_branch_sees_its_own_stage_only(form):
    neck = BYOTNeck(SHAPES, form=form).eval()
    maps = [m.requires_grad_() for m in stages()]
    for index, feature in enumerate(neck(maps)[:-1]):
        gradients = torch.autograd.grad(feature.sum(), maps, allow_unused=True)
        assert [g is not None for g in gradients] == [i == index for i in range(4)]
        assert neck.path(index).stages_read == index + 1
        assert torch.equal(neck.path(index)(maps[: index + 1]), feature)


def test_unknown_form_and_too_few_stages_are_named():
    with pytest.raises(ValueError, match="form='paper' must be one of"):
        BYOTNeck(SHAPES, form='paper')
    with pytest.raises(ValueError, match='BYOTNeck: stage_shapes=.* at least two stages'):
        BYOTNeck(SHAPES[:1])
    with pytest.raises(ValueError, match='got 3 stage maps, built for 4'):
        BYOTNeck(SHAPES)(stages(SHAPES[:3]))


def test_description_says_where_branches_start():
    assert BYOTNeck(SHAPES).describe() == [f'branch{i}: after stage {i}' for i in (1, 2, 3)]
