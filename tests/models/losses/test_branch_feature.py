"""Eq. 9 written out with numpy, and which side gets the gradient."""

import numpy as np
import pytest
import torch

from mmkdfuse.models import BranchFeatureLoss

N, D = 4, 6
REDUCTIONS = ('mean', 'squared', 'norm')


def features_of(branches, seed=0, width=D):
    """Main network's feature and those of ``branches`` branches."""
    generator = torch.Generator().manual_seed(seed)
    main, *rest = torch.randn(branches + 1, N, width, generator=generator)
    return main, rest


def written_out(main, branches, reduction):
    main = np.asarray(main, dtype=np.float64)
    distances = [((main - np.asarray(b, dtype=np.float64)) ** 2).sum(axis=1) for b in branches]
    if reduction == 'squared':
        return sum(d.mean() for d in distances)
    if reduction == 'mean':
        return sum(d.mean() for d in distances) / main.shape[1]
    return sum(np.sqrt(d.sum()) for d in distances)


def gradients(loss, main, branches):
    """Gradient of every input, None where there is none."""
    leaves = [f.clone().requires_grad_() for f in (main, *branches)]
    return torch.autograd.grad(loss(leaves[0], leaves[1:]), leaves, allow_unused=True)


@pytest.mark.parametrize('reduction', REDUCTIONS)
@pytest.mark.parametrize('branches', [1, 3])
@pytest.mark.parametrize('detach', ['branch', 'main', None])
def test_value_of_equation_9(reduction, branches, detach):
    main, rest = features_of(branches)
    loss = BranchFeatureLoss(reduction, detach)(main, rest)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(written_out(main, rest, reduction), rel=1e-5)


@pytest.mark.parametrize(
    ('reduction', 'value'), [('squared', 25 / 2), ('mean', 25 / 4), ('norm', 5)]
)
def test_two_images_by_hand(reduction, value):
    main = torch.tensor([[3.0, 0.0], [1.0, 1.0]])
    branch = torch.tensor([[0.0, -4.0], [1.0, 1.0]])
    assert BranchFeatureLoss(reduction)(main, [branch]).item() == pytest.approx(value)


def test_the_mean_over_features_is_the_default():
    main, rest = features_of(2)
    assert torch.equal(
        BranchFeatureLoss()(main, rest), BranchFeatureLoss('mean', 'branch')(main, rest)
    )


def test_the_default_does_not_grow_with_the_width():
    main, rest = features_of(2)
    twice = [torch.cat([branch, branch], dim=1) for branch in rest]
    main_twice = torch.cat([main, main], dim=1)
    torch.testing.assert_close(
        BranchFeatureLoss()(main_twice, twice), BranchFeatureLoss()(main, rest)
    )
    squared = BranchFeatureLoss('squared')
    torch.testing.assert_close(squared(main_twice, twice), 2 * squared(main, rest))


def test_the_main_network_learns_from_all_branches():
    main, rest = features_of(3)
    found, *others = gradients(BranchFeatureLoss(), main, rest)
    expected = sum(2 * (main - branch) for branch in rest) / (N * D)
    torch.testing.assert_close(found, expected)
    assert others == [None] * 3


@pytest.mark.parametrize('reduction', REDUCTIONS)
def test_gradients_of_every_choice_of_detached_side(reduction):
    main, rest = features_of(2)
    both = gradients(BranchFeatureLoss(reduction, None), main, rest)
    assert all(gradient.abs().sum() > 0 for gradient in both)
    only_main = gradients(BranchFeatureLoss(reduction, 'branch'), main, rest)
    only_branches = gradients(BranchFeatureLoss(reduction, 'main'), main, rest)
    torch.testing.assert_close(only_main[0], both[0])
    assert only_main[1:] == (None, None)
    assert only_branches[0] is None
    torch.testing.assert_close(only_branches[1:], both[1:])
    # Moving both sides together changes nothing.
    torch.testing.assert_close(both[0], -sum(both[1:]))


@pytest.mark.parametrize('reduction', REDUCTIONS)
def test_the_order_of_the_branches_is_irrelevant(reduction):
    main, (a, b, c) = features_of(3)
    loss = BranchFeatureLoss(reduction, None)
    torch.testing.assert_close(loss(main, [a, b, c]), loss(main, [b, c, a]))
    first, second = gradients(loss, main, [a, b, c]), gradients(loss, main, [b, c, a])
    for here, there in zip((0, 1, 2, 3), (0, 3, 1, 2), strict=True):
        torch.testing.assert_close(first[here], second[there])


@pytest.mark.parametrize('reduction', REDUCTIONS)
def test_equal_features_give_no_loss_and_no_gradient(reduction):
    main, _ = features_of(0)
    loss = BranchFeatureLoss(reduction, None)
    assert loss(main, [main, main]).item() == 0
    for gradient in gradients(loss, main, [main, main]):
        assert torch.equal(gradient, torch.zeros(N, D))


def test_half_precision_features_are_compared_in_float32():
    main, rest = features_of(1)
    half = BranchFeatureLoss()(main.bfloat16(), [rest[0].bfloat16()])
    assert half.dtype == torch.float32
    rounded = BranchFeatureLoss()(main.bfloat16().float(), [rest[0].bfloat16().float()])
    assert torch.equal(half, rounded)


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (dict(reduction='sum'), "reduction='sum' must be in .*'mean', 'squared', 'norm'"),
        (dict(detach='both'), "detach='both' must be in .*'branch', 'main', None"),
    ],
)
def test_refused_arguments_are_named(arguments, sentence):
    with pytest.raises(ValueError, match=f'BranchFeatureLoss: {sentence}'):
        BranchFeatureLoss(**arguments)
