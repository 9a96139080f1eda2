"""A KFD-like method: a classifier on fused features teaches all other heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmkdfuse.models.classifiers.branched import BranchedClassifier
from mmkdfuse.models.filled_in import filled_in
from mmkdfuse.models.losses.classification import ClassificationLoss
from mmkdfuse.models.losses.head_distillation import HeadDistillationLoss
from mmkdfuse.models.methods.byot import check_weights
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import LAST_BRANCH


@MODELS.register_module()
class FKD(BranchedClassifier):
    """Network taught by one more classifier on the fused features of all stages.

    **Our reading**, not the authors' method: of "KFD" (Li et al., Neural Processing Letters 2023;
    "FKD" in Table 6 of paper 000) only the idea is known to us. CE(q_fused, y) + sum over branches
    and main network of (1 - alpha) CE(q_i, y) + alpha KL(q_fused || q_i), plus feature_weight times
    the distance of their features from the fused one. The teacher is detached.

    The fused classifier is scored as the last branch. Terms: ``loss_ce_branch1`` ..,
    ``loss_ce_main``, ``loss_kl``, ``loss_feature``, weighted.

    Args:
        backbone: As for :class:`Classifier`; must yield at least two stage maps.
        num_classes: K.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
        alpha: Weight of the divergence, in [0, 1]; the taught cross-entropies weigh 1 - alpha.
        tau: Temperature of the divergence, > 0; no factor tau^2.
        feature_weight: Weight of the feature loss, >= 0; 0 leaves it out.
        feature_loss: Options of :class:`BranchFeatureLoss`; the fused feature is the detached side.
        losses: Further losses.
        **kwargs: ``neck`` (options of :class:`FKDNeck`), ``predict_from``, ``head``, .. of
            :class:`BranchedClassifier`.

    Raises:
        ValueError: If a weight is out of range.

    Example:
        >>> model = FKD(dict(arch='resnet18', base_channels=4), num_classes=10, image_size=32)
        >>> model.head_names  # the fused classifier is branch4
        ('branch1', 'branch2', 'branch3', 'branch4', 'main')
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
        losses: Sequence = (),
        **kwargs: Any,
    ) -> None:
        check_weights('FKD', alpha, tau, feature_weight)
        feature = {
            **dict(type='mmkdfuse.BranchFeatureLoss', reduction='norm'),
            **(feature_loss or {}),
        }
        where, teacher = 'FKD: feature_loss', 'the fused classifier, which teaches'
        feature = filled_in(where, feature, 'feature_weight', weight=feature_weight)
        feature = filled_in(where, feature, teacher, detach='main', target=LAST_BRANCH)
        own: list = [
            ClassificationLoss(1 - alpha, head_weights={LAST_BRANCH: 1.0}),
            HeadDistillationLoss(alpha, LAST_BRANCH, tau),
            feature,
        ]
        super().__init__(backbone, num_classes, image_size, losses=[*own, *losses], **kwargs)
        self.alpha, self.tau, self.feature_weight = alpha, tau, feature_weight
