"""Divergence of softened scores against numpy."""

import numpy as np
import pytest
import torch

from mmkdfuse.models.losses.soft_kl import soft_kl


def divergence(teacher, student, tau):
    def softmax(z):
        e = np.exp(np.asarray(z, dtype=np.float64) / tau)
        return e / e.sum(axis=-1, keepdims=True)

    p, q = softmax(teacher), softmax(student)
    return float((p * np.log(p / q)).sum(axis=-1).mean())


@pytest.mark.parametrize('shape', [(4, 5), (3, 4, 5)])
@pytest.mark.parametrize('tau', [1.0, 3.0])
def test_value(shape, tau):
    teacher, student = 2 * torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    assert soft_kl(teacher, student, tau).item() == pytest.approx(
        divergence(teacher, student, tau), rel=1e-5
    )


def test_it_is_zero_for_equal_logits_and_blind_to_a_shift():
    z = torch.randn(4, 5)
    assert soft_kl(z, z + 3).item() == pytest.approx(0, abs=1e-6)


def test_gradient_of_the_student_is_the_difference_of_the_probabilities():
    teacher, student = torch.randn(4, 5), torch.randn(4, 5, requires_grad=True)
    soft_kl(teacher, student, 3.0).backward()
    expected = (torch.softmax(student / 3, 1) - torch.softmax(teacher / 3, 1)) / (3 * 4)
    torch.testing.assert_close(student.grad, expected)


def test_statistics_are_in_float32():
    z = torch.randn(4, 5).bfloat16()
    assert soft_kl(z, -z).dtype == torch.float32
