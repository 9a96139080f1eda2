"""Eq. 8 written out with numpy, and who learns from whom."""

import numpy as np
import pytest
import torch

from mmkdfuse.models import MutualKLLoss

N, K = 4, 5


def logits_of(heads, seed=0):
    """Main network's logits and those of ``heads`` branches."""
    generator = torch.Generator().manual_seed(seed)
    main, *branches = 3 * torch.randn(heads + 1, N, K, generator=generator)
    return main, branches


def softmax(z, tau):
    exponentials = np.exp(np.asarray(z, dtype=np.float64) / tau)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def kl(p, q):
    """KL(p || q): sum over classes, mean over the batch, natural logarithm."""
    return float((p * (np.log(p) - np.log(q))).sum(axis=1).mean())


def equation_8(main, branches, tau):
    q_main = softmax(main, tau)
    q = [softmax(branch, tau) for branch in branches]
    return sum(kl(q_i, q_main) for q_i in q) + sum(kl(q_main, q_i) for q_i in q)


def gradients(loss, main, branches):
    leaves = [z.clone().requires_grad_() for z in (main, *branches)]
    return torch.autograd.grad(loss(leaves[0], leaves[1:]), leaves)


@pytest.mark.parametrize('heads', [1, 3])
@pytest.mark.parametrize('tau', [1.0, 3.0])
@pytest.mark.parametrize('detach', [True, False])
def test_value_of_equation_8(heads, tau, detach):
    main, branches = logits_of(heads)
    loss = MutualKLLoss(tau=tau, detach_target=detach)(main, branches)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(equation_8(main, branches, tau), rel=1e-5)


def test_two_classes_by_hand():
    # tau = 1: q_main = (3/4, 1/4), q_1 = (1/2, 1/2).
    main, branch = torch.tensor([[np.log(3.0), 0.0]]), torch.zeros(1, 2)
    there = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    back = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    assert MutualKLLoss(tau=1.0)(main, [branch]).item() == pytest.approx(there + back, rel=1e-6)


def test_temperature_3_is_the_default():
    main, branches = logits_of(3)
    assert torch.equal(MutualKLLoss()(main, branches), MutualKLLoss(tau=3.0)(main, branches))


@pytest.mark.parametrize('tau', [1.0, 2.0, 3.0])
def test_scaling_by_tau2(tau):
    main, branches = logits_of(2)
    plain = MutualKLLoss(tau=tau)(main, branches)
    scaled = MutualKLLoss(tau=tau, scale_by_tau2=True)(main, branches)
    torch.testing.assert_close(scaled, plain * tau**2)


def test_each_side_learns_from_the_other_only():
    """The gradient of KL(sg(p) || softmax(z / tau)) in z is (softmax(z / tau) - p) / tau."""
    tau = 3.0
    main, branches = logits_of(3)
    q_main, q = softmax(main, tau), [softmax(branch, tau) for branch in branches]
    found = gradients(MutualKLLoss(tau), main, branches)
    expected = [sum(q_main - q_i for q_i in q), *(q_i - q_main for q_i in q)]
    for gradient, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(gradient, reference / (tau * N), rtol=1e-4, atol=1e-6)


def test_without_detaching_the_teacher_moves_too():
    """In z of the teacher, KL(p || q) has the gradient p (log p - log q - KL) / tau as well."""
    tau = 3.0
    main, branches = logits_of(2)
    p, q = softmax(main, tau), [softmax(branch, tau) for branch in branches]

    def as_teacher(p, q):
        log_ratio = np.log(p) - np.log(q)
        return p * (log_ratio - (p * log_ratio).sum(axis=1, keepdims=True))

    found = gradients(MutualKLLoss(tau, detach_target=False), main, branches)
    expected = [
        sum(p - q_i + as_teacher(p, q_i) for q_i in q),
        *(q_i - p + as_teacher(q_i, p) for q_i in q),
    ]
    for gradient, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(gradient, reference / (tau * N), rtol=1e-4, atol=1e-6)


def test_the_order_of_the_branches_is_irrelevant():
    main, (a, b, c) = logits_of(3)
    loss = MutualKLLoss()
    torch.testing.assert_close(loss(main, [a, b, c]), loss(main, [c, a, b]))
    first, second = gradients(loss, main, [a, b, c]), gradients(loss, main, [c, a, b])
    for here, there in zip((0, 1, 2, 3), (0, 2, 3, 1), strict=True):
        torch.testing.assert_close(first[here], second[there])


def test_main_and_one_branch_may_change_places():
    main, (branch,) = logits_of(1)
    torch.testing.assert_close(MutualKLLoss()(main, [branch]), MutualKLLoss()(branch, [main]))


@pytest.mark.parametrize('detach', [True, False])
def test_equal_logits_give_no_loss_and_no_gradient(detach):
    main, _ = logits_of(0)
    loss = MutualKLLoss(detach_target=detach)
    assert loss(main, [main, main]).item() == pytest.approx(0, abs=1e-6)
    for gradient in gradients(loss, main, [main, main]):
        torch.testing.assert_close(gradient, torch.zeros(N, K), rtol=0, atol=1e-6)


def test_a_constant_added_to_the_logits_changes_nothing():
    main, branches = logits_of(2)
    moved = [branch + 7 for branch in branches]
    torch.testing.assert_close(MutualKLLoss()(main - 4, moved), MutualKLLoss()(main, branches))


def test_certain_and_opposite_predictions_stay_finite():
    main = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = MutualKLLoss()(main, [-main.detach()])
    loss.backward()
    assert loss.item() == pytest.approx(2 * 2e4 / 3, rel=1e-5)
    assert torch.isfinite(main.grad).all()


def test_half_precision_logits_are_compared_in_float32():
    main, branches = logits_of(2)
    half = MutualKLLoss()(main.bfloat16(), [branch.bfloat16() for branch in branches])
    rounded = [branch.bfloat16().float() for branch in branches]
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, MutualKLLoss()(main.bfloat16().float(), rounded))


@pytest.mark.parametrize('direction', ['both', 'to_main', 'to_branches'])
@pytest.mark.parametrize('detach', [True, False])
@pytest.mark.parametrize('heads', [1, 3])
def test_equals_one_divergence_after_the_other(direction, detach, heads):
    """The closed form of both directions, and its gradient, against KL by KL."""
    tau = 3.0

    def divergence(target, student):
        target = target.detach() if detach else target
        p, q = (torch.softmax(z / tau, dim=1) for z in (target, student))
        return (p * (p.log() - q.log())).sum(dim=1).mean()

    def one_by_one(main, branches):
        to_main = [divergence(branch, main) for branch in branches]
        to_branches = [divergence(main, branch) for branch in branches]
        terms = {'both': to_main + to_branches, 'to_main': to_main, 'to_branches': to_branches}
        return sum(terms[direction])

    def results(loss):
        main, branches = logits_of(heads)
        leaves = [z.double().requires_grad_() for z in (main, *branches)]
        value = loss(leaves[0], leaves[1:])
        return value, torch.autograd.grad(value, leaves, materialize_grads=True)

    value, gradients = results(MutualKLLoss(tau, detach, direction=direction))
    expected, references = results(one_by_one)
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradients, references, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('tau', [0, -1.0, float('nan')])
def test_refused_temperature_is_named(tau):
    with pytest.raises(ValueError, match=f'MutualKLLoss: tau={tau} must be positive'):
        MutualKLLoss(tau=tau)


@pytest.mark.parametrize('direction', ['to_main', 'to_branches'])
def test_half_of_equation_8(direction):
    main, branches = logits_of(3)
    q_main, *q = (softmax(z, 3.0) for z in (main, *branches))
    pairs = [(q_i, q_main) if direction == 'to_main' else (q_main, q_i) for q_i in q]
    loss = MutualKLLoss(direction=direction)
    assert loss(main, branches).item() == pytest.approx(sum(kl(*p) for p in pairs), rel=1e-5)
    leaves = [z.clone().requires_grad_() for z in (main, *branches)]
    loss(leaves[0], leaves[1:]).backward()
    learns = [leaf.grad is not None and bool(leaf.grad.any()) for leaf in leaves]
    assert learns == [direction == 'to_main', *[direction == 'to_branches'] * 3]
