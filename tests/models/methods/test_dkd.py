"""DKD against its formula in numpy, its warm-up, its limits."""

import numpy as np
import pytest
import torch

from mmkdfuse.models.losses.dkd import decoupled_kd

K, N = 6, 5


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def expected(teacher, student, labels, alpha, beta, tau):
    """Literal: binary probabilities, and the softmax of the row without its label."""
    rows, total = range(len(labels)), 0.0
    p, q = softmax(teacher / tau), softmax(student / tau)
    for row in rows:
        own = labels[row]
        b_t, b_s = (
            np.array([p[row, own], 1 - p[row, own]]),
            np.array([q[row, own], 1 - q[row, own]]),
        )
        r_t = softmax(np.delete(teacher[row], own)[None] / tau)[0]
        r_s = softmax(np.delete(student[row], own)[None] / tau)[0]
        total += alpha * (b_t * np.log(b_t / b_s)).sum() + beta * (r_t * np.log(r_t / r_s)).sum()
    return tau**2 * total / len(labels)


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    teacher, student = (3 * torch.randn(N, K, generator=generator) for _ in range(2))
    return teacher, student, torch.tensor([0, 5, 2, 2, 1])


@pytest.mark.parametrize(('alpha', 'beta', 'tau'), [(1, 8, 4), (1, 0, 2), (0, 1, 1), (0.5, 2, 3)])
def test_it_is_the_formula(logits, alpha, beta, tau):
    teacher, student, labels = logits
    found = decoupled_kd(teacher, student, labels, alpha, beta, tau)
    numbers = teacher.double().numpy(), student.double().numpy(), labels.numpy()
    assert found.item() == pytest.approx(expected(*numbers, alpha, beta, tau), rel=1e-4)


def test_it_is_zero_for_equal_scores_and_finite_for_certain_ones(logits):
    teacher, student, labels = logits
    assert decoupled_kd(teacher, teacher + 7, labels, 1, 8, 4).item() == pytest.approx(0, abs=1e-5)
    certain = (1e4 * teacher).requires_grad_()
    loss = decoupled_kd(1e4 * student, certain, labels, 1, 8, 4)
    loss.backward()
    assert loss.isfinite() and certain.grad.isfinite().all()


@pytest.mark.parametrize(('epoch', 'share'), [(0, 0.25), (1, 0.5), (3, 1.0), (100, 1.0)])
def test_it_grows_over_the_first_epochs(build, batch, epoch, share):
    model = build('DKD', warmup_epochs=4).eval()
    model.set_progress(1000, 1200)
    full = model(batch.images, batch.labels, mode='loss')
    model.set_progress(epoch, 1200)
    now = model(batch.images, batch.labels, mode='loss')
    torch.testing.assert_close(now['loss_dkd'], share * full['loss_dkd'])
    torch.testing.assert_close(now['loss_ce'], full['loss_ce'])


def test_refused_arguments_are_named(build, batch):
    with pytest.raises(ValueError, match='alpha=-1 and beta=8.0 must be >= 0'):
        build('DKD', alpha=-1)
    with pytest.raises(ValueError, match='warmup_epochs=0 must be at least 1'):
        build('DKD', warmup_epochs=0)
    with pytest.raises(ValueError, match=r'labels of shape \(4, 5\) mix classes'):
        build('DKD')(batch.images, torch.full((4, 5), 0.2), mode='loss')
