"""Maps before the activation, in the manner of the overhaul (Heo et al., ICCV 2019)."""

import math

import torch
from torch import nn

from mmkdfuse.models import Loss
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import Reads, Taps


def margin(norm):
    """E[x | x < 0] of what a batch norm gives, one number a channel, x taken as normal."""
    mean, std = norm.bias, norm.weight.abs().clamp(min=1e-6)
    below = torch.special.ndtr(-mean / std)
    density = torch.exp(-0.5 * (mean / std).square()) / math.sqrt(2 * math.pi)
    return torch.where(below > 1e-3, mean - std * density / below.clamp(min=1e-3), -3 * std)


def partial_distance(ours, theirs):
    """Squared difference, but none where the teacher is silent and the student below it."""
    counted = (ours > theirs) | (theirs > 0)
    return ((ours - theirs).square() * counted).sum() / len(ours)


@MODELS.register_module()
class MarginLoss(Loss):
    """weight * distance of the maps before the activations, deeper stages counting twice as much.

    The student's maps pass a 1x1 convolution and a batch norm; the teacher's are cut off at the
    margin of their channel.

    Args:
        weight: Factor of the deepest stage, >= 0.
        **kwargs: ``warmup_epochs`` of ``Loss``.
    """

    def __init__(self, weight=1e-3, **kwargs):
        super().__init__(weight, **kwargs)
        before = Taps(before_activation='all')
        self.reads = Reads(student=before, teacher=before)

    def connect(self, student, teachers):
        (teacher,) = teachers
        count = len(teacher.stage_shapes)
        if len(student.stage_shapes) != count:
            raise ValueError(f'MarginLoss: expected a student of {count} stages, as the teacher.')
        # The teacher's weights are not loaded yet: the norms are kept, and the margins computed
        # from them when a step needs them. In a list, which does not make them modules of the loss.
        self._norms = [teacher.norms(stage) for stage in range(1, count + 1)]
        if None in self._norms:
            raise ValueError(f'MarginLoss: {teacher.name} lacks batch norms before activations.')
        self.regressors = nn.ModuleList()
        for stage in range(1, count + 1):
            ours, theirs = (
                info.shapes(f'stage{stage}.before_activation') for info in (student, teacher)
            )
            convolution = nn.Conv2d(ours[0], theirs[0], 1, bias=False)
            self.regressors.append(nn.Sequential(convolution, nn.BatchNorm2d(theirs[0])))

    def terms(self, step):
        distance = 0.0
        for stage, regressor in enumerate(self.regressors, start=1):
            ours = regressor(step.student.before_activation(stage)).float()
            lowest = margin(self._norms[stage - 1]).view(-1, 1, 1)
            theirs = torch.maximum(step.teachers[0].before_activation(stage).float(), lowest)
            distance = distance / 2 + partial_distance(ours, theirs)
        return dict(loss_margin=self.weight_at(step) * distance)
