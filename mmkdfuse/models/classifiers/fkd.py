"""A KFD-like method: a classifier on fused features teaches all others."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmkdfuse.models.classifiers.branched import BranchedClassifier
from mmkdfuse.models.losses.soft_kl import soft_kl
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import NetworkOutput


@MODELS.register_module()
class FKD(BranchedClassifier):
    """One more classifier, on the fused features of all stages, teaches branches and main network.

    **Our reading**, not the authors' method: of "KFD" (Li et al., Neural Processing Letters 2023;
    "FKD" in Table 6 of paper 000) only the idea is known to us. CE(q_fused, y) + sum over branches
    and main network of (1 - alpha) CE(q_i, y) + alpha KL(q_fused || q_i), plus feature_weight times
    the distance of their features from the fused one; the teacher is detached.

    The fused classifier is scored as the last branch. Terms: ``loss_ce_branch1`` ..,
    ``loss_ce_main``, ``loss_kl``, ``loss_feature``, weighted.

    Args:
        backbone: As for :class:`Classifier`; must yield at least two stage maps.
        num_classes: K.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
        alpha: Weight of the divergence, in [0, 1]; the taught cross-entropies weigh 1 - alpha.
        tau: Temperature of the divergence, > 0; no factor tau^2.
        feature_weight: Weight of the feature loss, >= 0; 0 leaves it out.
        feature_loss: Config of :class:`BranchFeatureLoss`; the fused feature is the detached side.
        **kwargs: ``neck`` (options of :class:`FKDNeck`), ``predict_from``, ``head``, .. of
            :class:`BranchedClassifier`.

    Raises:
        ValueError: If a weight is out of range.
    """

    neck_type = 'mmkdfuse.FKDNeck'

    def __init__(
        self,
        backbone: str | dict,
        num_classes: int,
        image_size: int | Sequence[int],
        alpha: float = 0.3,
        tau: float = 3.0,
        feature_weight: float = 0.03,
        feature_loss: dict | None = None,
        **kwargs: Any,
    ) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f'FKD: alpha={alpha} must be in [0, 1].')
        if not tau > 0:
            raise ValueError(f'FKD: tau={tau} must be positive.')
        if feature_weight < 0:
            raise ValueError(f'FKD: feature_weight={feature_weight} must not be negative.')
        super().__init__(backbone, num_classes, image_size, **kwargs)
        self.alpha, self.tau, self.feature_weight = alpha, tau, feature_weight
        loss = {'type': 'mmkdfuse.BranchFeatureLoss', 'reduction': 'norm', **(feature_loss or {})}
        self.feature_loss = MODELS.build({**loss, 'detach': 'main'})

    def _losses(self, output: NetworkOutput, targets: Tensor) -> dict[str, Tensor]:
        taught = [1 - self.alpha] * self.num_heads
        taught[-2] = 1.0  # the fused classifier: the teacher
        terms = self._cross_entropies(output, targets, taught)
        *branch_logits, teacher_logits, main_logits = output.logits
        *branch_features, teacher_feature, main_feature = output.features
        if self.alpha > 0:
            students = torch.stack([*branch_logits, main_logits])
            teacher = teacher_logits.detach().expand_as(students)
            terms['loss_kl'] = self.alpha * len(students) * soft_kl(teacher, students, self.tau)
        if self.feature_weight > 0:
            distance = self.feature_loss(teacher_feature, [*branch_features, main_feature])
            terms['loss_feature'] = self.feature_weight * distance
        return terms
