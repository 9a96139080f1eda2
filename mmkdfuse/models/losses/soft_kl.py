"""Divergence of softened probabilities, the term that most methods share."""

import torch.nn.functional as F
from torch import Tensor


def soft_kl(teacher_logits: Tensor, student_logits: Tensor, tau: float = 1.0) -> Tensor:
    """KL(softmax(teacher / tau) || softmax(student / tau)) in float32.

    Natural logarithm, sum over classes, mean over all leading axes. It has no factor tau^2 and
    detaches nothing. Where the teacher is detached, the gradient is that of the cross-entropy of
    softened probabilities.

    Args:
        teacher_logits: (.., K).
        student_logits: (.., K), of the same shape.
        tau: Temperature, > 0.
    """
    log_teacher = F.log_softmax(teacher_logits.float() / tau, dim=-1)
    log_student = F.log_softmax(student_logits.float() / tau, dim=-1)
    divergence = F.kl_div(log_student, log_teacher, reduction='sum', log_target=True)
    return divergence * teacher_logits.shape[-1] / teacher_logits.numel()
