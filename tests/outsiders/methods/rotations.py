"""Joint labels of class and rotation, in the manner of HSAKD (Yang et al., IJCAI 2021)."""

import torch
import torch.nn.functional as F
from torch import nn

from mmkdfuse.models import Loss
from mmkdfuse.models.losses import soft_kl
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import MAIN, Reads, Taps


@MODELS.register_module()
class Rotations(nn.Module):
    """Images (N, C, H, W) and what a quarter turn makes of them, thrice: (4 * N, C, H, W)."""

    def forward(self, images):
        return torch.cat([torch.rot90(images, turns, (2, 3)) for turns in range(4)])


@MODELS.register_module()
class JointLabelLoss(Loss):
    """weight * cross-entropy of every branch with the joint label 4 * class + quarter turns."""

    def __init__(self, weight=1.0, **kwargs):
        super().__init__(weight, **kwargs)
        self.reads = Reads(student=Taps(logits='branches'), targets=True)

    def connect(self, student, teachers):
        expected = 4 * student.num_classes
        for branch in student.heads[:-1]:
            (found,) = student.shapes(f'logits.{branch}')
            if found != expected:
                raise ValueError(f'JointLabelLoss: branch_classes={found}, expected {expected}.')

    def terms(self, step):
        labels = torch.cat([4 * step.targets + turns for turns in range(step.num_views)])
        branches = step.student.head_logits.values()
        losses = [F.cross_entropy(logits.float(), labels) for logits in branches]
        return dict(loss_joint=self.weight_at(step) * sum(losses))


@MODELS.register_module()
class SameHeadsKLLoss(Loss):
    """weight * tau^2 KL(teacher || student) of every head with the same one of the teacher.

    The branches learn from all views, the main head from the images themselves.
    """

    def __init__(self, weight=1.0, tau=3.0, **kwargs):
        super().__init__(weight, **kwargs)
        self.tau = tau
        self.reads = Reads(student=Taps(logits='all'), teacher=Taps(logits='all'))

    def connect(self, student, teachers):
        (teacher,) = teachers
        ours, theirs = (
            {head: info.shapes(f'logits.{head}') for head in info.heads}
            for info in (student, teacher)
        )
        if ours != theirs:
            raise ValueError(f'SameHeadsKLLoss: teacher with heads {theirs}, expected {ours}.')

    def terms(self, step):
        divergence = 0.0
        for head, ours in step.student.head_logits.items():
            theirs = step.teachers[0].logits_of(head)
            if head == MAIN:
                ours, theirs = (logits.chunk(step.num_views)[0] for logits in (ours, theirs))
            divergence = divergence + soft_kl(theirs, ours, self.tau)
        return dict(loss_heads=self.weight_at(step) * self.tau**2 * divergence)
