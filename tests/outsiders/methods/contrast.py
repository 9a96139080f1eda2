"""Contrast with a memory of all images, in the manner of CRD (Tian et al., ICLR 2020)."""

import torch
import torch.nn.functional as F
from torch import nn

from mmkdfuse.models import Loss
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import Reads, Taps


def contrast(anchors, positives, negatives, tau):
    """Cross-entropy of finding the positive (N, D) among the negatives (N, R, D) of an anchor."""
    near = (anchors * positives).sum(dim=1, keepdim=True)
    far = torch.einsum('nd,nrd->nr', anchors, negatives)
    return -F.log_softmax(torch.cat([near, far], dim=1) / tau, dim=1)[:, 0].mean()


@MODELS.register_module()
class ContrastLoss(Loss):
    """weight * contrast of student and teacher, both ways, negatives drawn from the memory.

    The memory holds an embedding of every image, as the student and as the teacher last saw it.
    Every process remembers the images that it has seen itself.

    Args:
        weight: Factor, >= 0.
        width: D of the embeddings.
        negatives: R, drawn for every image.
        tau: Temperature, > 0.
        momentum: Share of the old embedding in the new one, in [0, 1).
        **kwargs: ``warmup_epochs`` of ``Loss``.
    """

    def __init__(self, weight=0.8, width=32, negatives=64, tau=0.07, momentum=0.5, **kwargs):
        super().__init__(weight, **kwargs)
        self.width, self.negatives, self.tau, self.momentum = width, negatives, tau, momentum
        features = Taps(features='main')
        self.reads = Reads(student=features, teacher=features, indices=True, dataset=True)

    def connect(self, student, teachers):
        (teacher,) = teachers
        self.adapters = nn.ModuleDict(
            dict(
                student=nn.Linear(*student.shapes('feature.main'), self.width),
                teacher=nn.Linear(*teacher.shapes('feature.main'), self.width),
            )
        )

    def see_dataset(self, dataset):
        for name in ('student', 'teacher'):
            self.add_memory(name, F.normalize(torch.randn(dataset.size, self.width)))

    def terms(self, step):
        features = dict(student=step.student.feature, teacher=step.teachers[0].feature)
        seen = {name: F.normalize(self.adapters[name](x).float()) for name, x in features.items()}
        memory = self.memories['teacher']
        size = (len(step.indices), self.negatives)
        away = torch.randint(1, len(memory), size, device=memory.device)
        rows = (step.indices[:, None] + away) % len(memory)  # never the image itself
        loss = sum(
            contrast(seen[one], seen[other], self.memories[other][rows], self.tau)
            for one, other in [('student', 'teacher'), ('teacher', 'student')]
        )
        for name, embeddings in seen.items():
            self.remember(name, step.indices, embeddings.detach())
        return dict(loss_contrast=self.weight_at(step) * loss)

    def remember(self, name, indices, embeddings):
        old = self.memories[name][indices]
        self.memories[name][indices] = F.normalize(torch.lerp(embeddings, old, self.momentum))
