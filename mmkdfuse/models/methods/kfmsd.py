"""Knowledge-fusion mutual self-distillation (KFMSD)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmkdfuse.models.classifiers.branched import BranchedClassifier
from mmkdfuse.models.filled_in import filled_in
from mmkdfuse.models.losses.classification import ClassificationLoss
from mmkdfuse.registry import MODELS

SCALES = (None, 'labels')


@MODELS.register_module()
class KFMSD(BranchedClassifier):
    """One network whose shallow stages grow branches; network and branches teach each other.

    "Knowledge Fusion Mutual Self-distillation: Each Branch is a Good Teacher" (Jia et al., 2025),
    eq. 10: loss = (1 - gamma) * sum of cross-entropies + gamma * mutual KL + delta * feature loss.
    Without the mutual term (``gamma=0`` or ``mutual_loss=None``) the cross-entropies weigh 1, which
    is how the ablation of Table 5 is read. Branches are dropped for deployment.

    Terms: ``loss_ce_branch1`` .., ``loss_ce_main``, ``loss_mutual_kl``, ``loss_feature``, weighted.

    Args:
        backbone: As for :class:`Classifier`; must yield at least two stage maps.
        num_classes: K.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
        mutual_loss: Options of eq. 8 (:class:`MutualKLLoss`), or None to leave it out.
        feature_loss: Options of eq. 9 (:class:`BranchFeatureLoss`), or None to leave it out.
        gamma: Weight of the mutual loss, in [0, 1]; the paper's 0.7. 0 without that loss.
        delta: Weight of the feature loss, >= 0; the paper's 0.03. 0 without that loss.
        scale: None for eq. 10 as printed; ``'labels'`` divides all terms by 1 - gamma, so that the
            labels weigh 1: for short schedules, on which eq. 10 shrinks the step.
        losses: Further losses, such as ``dict(type='KDLoss')`` with a ``teacher``.
        **kwargs: ``neck`` (options of :class:`KFMNeck`), ``teacher``, ``predict_from``, ``head``,
            .. of :class:`BranchedClassifier`.

    Raises:
        ValueError: If a weight is out of range, a head does not exist or there are too few stages.

    Example:
        >>> model = KFMSD(dict(arch='resnet18', base_channels=4), num_classes=10, image_size=32)
        >>> list(model.losses)
        ['ClassificationLoss', 'MutualKLLoss', 'BranchFeatureLoss']
    """

    def __init__(
        self,
        backbone: str | dict,
        num_classes: int,
        image_size: int | Sequence[int],
        mutual_loss: dict | None = dict(type='mmkdfuse.MutualKLLoss'),  # noqa: B006
        feature_loss: dict | None = dict(type='mmkdfuse.BranchFeatureLoss'),  # noqa: B006
        gamma: float = 0.7,
        delta: float = 0.03,
        scale: str | None = None,
        losses: Sequence = (),
        **kwargs: Any,
    ) -> None:
        if not 0 <= gamma <= 1:
            raise ValueError(f'KFMSD: gamma={gamma} must be in [0, 1].')
        if delta < 0:
            raise ValueError(f'KFMSD: delta={delta} must not be negative.')
        self_gamma = 0.0 if mutual_loss is None else gamma
        self_delta = 0.0 if feature_loss is None else delta
        if scale not in SCALES:
            raise ValueError(f'KFMSD: scale={scale!r} must be one of {SCALES}.')
        if scale and self_gamma == 1:
            raise ValueError(f'KFMSD: scale={scale!r} divides by 1 - gamma, which is 0.')
        unit = 1 - self_gamma if scale else 1.0
        mutual = {'type': 'mmkdfuse.MutualKLLoss', **(mutual_loss or {})}
        feature = {'type': 'mmkdfuse.BranchFeatureLoss', **(feature_loss or {})}
        own: list = [
            ClassificationLoss((1 - self_gamma) / unit),
            filled_in('KFMSD: mutual_loss', mutual, 'gamma', weight=self_gamma / unit),
            filled_in('KFMSD: feature_loss', feature, 'delta', weight=self_delta / unit),
        ]
        super().__init__(backbone, num_classes, image_size, losses=[*own, *losses], **kwargs)
        self.gamma, self.delta = self_gamma, self_delta
