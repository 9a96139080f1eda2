"""Attention transfer (Zagoruyko and Komodakis, ICLR 2017): look where the teacher looks."""

import torch.nn.functional as F

from mmkdfuse.models import Loss
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import Reads, Taps


def attention(maps):
    """Attention (N, H * W): mean over the channels of the squared maps, of length 1."""
    return F.normalize(maps.float().square().mean(dim=1).flatten(1))


@MODELS.register_module()
class AttentionLoss(Loss):
    """weight * mean squared difference of the attentions, summed over all stages.

    Args:
        weight: Factor, >= 0.
        **kwargs: ``warmup_epochs`` of ``Loss``.
    """

    def __init__(self, weight=1000.0, **kwargs):
        super().__init__(weight, **kwargs)
        self.reads = Reads(student=Taps(stages='all'), teacher=Taps(stages='all'))

    def connect(self, student, teachers):
        sizes = [[shape[1:] for shape in info.stage_shapes] for info in (student, *teachers)]
        if any(each != sizes[0] for each in sizes):
            raise ValueError(f'AttentionLoss: stages of one size in all networks, not {sizes}.')

    def terms(self, step):
        distance = sum(
            F.mse_loss(attention(ours), attention(theirs))
            for teacher in step.teachers
            for ours, theirs in zip(step.student.stages, teacher.stages, strict=True)
        )
        return dict(loss_attention=self.weight_at(step) * distance)
