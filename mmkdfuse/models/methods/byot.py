"""Be Your Own Teacher (BYOT), later called self-distillation (SD)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmkdfuse.models.classifiers.branched import BranchedClassifier
from mmkdfuse.models.filled_in import filled_in
from mmkdfuse.models.losses.classification import ClassificationLoss
from mmkdfuse.models.losses.head_distillation import HeadDistillationLoss
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import MAIN


@MODELS.register_module()
class BYOT(BranchedClassifier):
    """Network whose branches learn from its main head, which learns from the labels.

    Zhang et al., ICCV 2019 and TPAMI 2021: sum over branches of (1 - alpha) CE(q_i, y) + alpha
    KL(q_M || q_i) + feature_weight ||F_i - F_M||^2. The main network learns from CE(q_M, y); as a
    teacher it is detached.

    The papers leave numbers open. The configs of this package take them from code. That is the
    authors' own for the journal form (norm instead of its square, linear adapters, the deepest
    branch exempt), and an unofficial reproduction for the conference form.

    Terms: ``loss_ce_branch1`` .., ``loss_ce_main``, ``loss_kl``, ``loss_feature``, weighted.

    Args:
        backbone: As for :class:`Classifier`; must yield at least two stage maps.
        num_classes: K.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
        alpha: Weight of the divergence, in [0, 1]; the branches' cross-entropies weigh 1 - alpha.
        tau: Temperature of the divergence, > 0.
        scale_by_tau2: Multiply the divergence by tau^2.
        feature_weight: Weight of the feature loss, >= 0; 0 leaves it out.
        feature_loss: Options of :class:`BranchFeatureLoss`; the main network is the detached side.
        adapters: One linear layer on every branch's feature before the feature loss; training only.
        exempt_deepest: Leave the deepest branch out of the feature loss, as the journal's code.
        losses: Further losses.
        **kwargs: ``neck`` (options of :class:`BYOTNeck`), ``predict_from``, ``head``, .. of
            :class:`BranchedClassifier`.

    Raises:
        ValueError: If a weight is out of range.

    Example:
        >>> model = BYOT(dict(arch='resnet18', base_channels=4), num_classes=10, image_size=32)
        >>> list(model.losses)
        ['ClassificationLoss', 'HeadDistillationLoss', 'BranchFeatureLoss']
    """

    neck_type = 'mmkdfuse.BYOTNeck'
    moved_weights = {'adapters.': 'losses.BranchFeatureLoss.adapters.'}

    def __init__(
        self,
        backbone: str | dict,
        num_classes: int,
        image_size: int | Sequence[int],
        alpha: float = 0.3,
        tau: float = 3.0,
        scale_by_tau2: bool = False,
        feature_weight: float = 0.03,
        feature_loss: dict | None = None,
        adapters: bool = True,
        exempt_deepest: bool = True,
        losses: Sequence = (),
        **kwargs: Any,
    ) -> None:
        check_weights('BYOT', alpha, tau, feature_weight)
        feature = {
            **dict(type='mmkdfuse.BranchFeatureLoss', reduction='norm'),
            **(feature_loss or {}),
        }
        where, itself = 'BYOT: feature_loss', 'the option of BYOT itself'
        feature = filled_in(where, feature, 'feature_weight', weight=feature_weight)
        feature = filled_in(where, feature, 'the main network, which teaches', detach='main')
        feature = filled_in(
            where, feature, itself, adapters=adapters, exempt_deepest=exempt_deepest
        )
        own: list = [
            ClassificationLoss(1 - alpha, head_weights={MAIN: 1.0}),
            HeadDistillationLoss(alpha, MAIN, tau, scale_by_tau2),
            feature,
        ]
        super().__init__(backbone, num_classes, image_size, losses=[*own, *losses], **kwargs)
        self.alpha, self.tau, self.feature_weight = alpha, tau, feature_weight


def check_weights(name: str, alpha: float, tau: float, feature_weight: float) -> None:
    """Raise if a weight of a method in which one head teaches the others is out of range."""
    if not 0 <= alpha <= 1:
        raise ValueError(f'{name}: alpha={alpha} must be in [0, 1].')
    if not tau > 0:
        raise ValueError(f'{name}: tau={tau} must be positive.')
    if feature_weight < 0:
        raise ValueError(f'{name}: feature_weight={feature_weight} must not be negative.')
