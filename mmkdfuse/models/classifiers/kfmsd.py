"""Knowledge-fusion mutual self-distillation (KFMSD)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mmkdfuse.models.classifiers.branched import BranchedClassifier
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import NetworkOutput


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
        mutual_loss: Config of eq. 8, or None to leave it out.
        feature_loss: Config of eq. 9, or None to leave it out.
        gamma: Weight of the mutual loss, in [0, 1]; the paper's 0.7.
        delta: Weight of the feature loss, >= 0; the paper's 0.03.
        **kwargs: ``neck`` (options of :class:`KFMNeck`), ``predict_from``, ``head``, .. of
            :class:`BranchedClassifier`.

    Raises:
        ValueError: If a weight is out of range, a head does not exist or there are too few stages.
    """

    neck_type = 'mmkdfuse.KFMNeck'

    def __init__(
        self,
        backbone: str | dict,
        num_classes: int,
        image_size: int | Sequence[int],
        mutual_loss: dict | None = dict(type='mmkdfuse.MutualKLLoss'),  # noqa: B006
        feature_loss: dict | None = dict(type='mmkdfuse.BranchFeatureLoss'),  # noqa: B006
        gamma: float = 0.7,
        delta: float = 0.03,
        **kwargs: Any,
    ) -> None:
        if not 0 <= gamma <= 1:
            raise ValueError(f'KFMSD: gamma={gamma} must be in [0, 1].')
        if delta < 0:
            raise ValueError(f'KFMSD: delta={delta} must not be negative.')
        super().__init__(backbone, num_classes, image_size, **kwargs)
        self.gamma = gamma if mutual_loss else 0.0
        self.delta = delta if feature_loss else 0.0
        self.mutual_loss = MODELS.build({'type': 'mmkdfuse.MutualKLLoss', **(mutual_loss or {})})
        self.feature_loss = MODELS.build(
            {'type': 'mmkdfuse.BranchFeatureLoss', **(feature_loss or {})}
        )

    def _losses(self, output: NetworkOutput, targets: Tensor) -> dict[str, Tensor]:
        terms = self._cross_entropies(output, targets, [1 - self.gamma] * self.num_heads)
        *branch_logits, main_logits = output.logits
        *branch_features, main_feature = output.features
        if self.gamma > 0:
            terms['loss_mutual_kl'] = self.gamma * self.mutual_loss(main_logits, branch_logits)
        if self.delta > 0:
            terms['loss_feature'] = self.delta * self.feature_loss(main_feature, branch_features)
        return terms
