"""Be Your Own Teacher (BYOT), later called self-distillation (SD)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmkdfuse.models.classifiers.branched import BranchedClassifier
from mmkdfuse.models.losses.soft_kl import soft_kl
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import NetworkOutput


@MODELS.register_module()
class BYOT(BranchedClassifier):
    """Branches learn from the labels and from the main network, which learns from labels only.

    Zhang et al., ICCV 2019 and TPAMI 2021: sum over branches of (1 - alpha) CE(q_i, y) +
    alpha KL(q_M || q_i) + feature_weight ||F_i - F_M||^2, and CE(q_M, y) for the main network,
    which is the teacher and detached.

    The papers leave numbers open. The configs of this package take them from code: for the journal
    form the authors' own (norm instead of its square, linear adapters, the deepest branch exempt),
    for the conference form an unofficial reproduction.

    Terms: ``loss_ce_branch1`` .., ``loss_ce_main``, ``loss_kl``, ``loss_feature``, weighted.

    Args:
        backbone: As for :class:`Classifier`; must yield at least two stage maps.
        num_classes: K.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
        alpha: Weight of the divergence, in [0, 1]; the branches' cross-entropies weigh 1 - alpha.
        tau: Temperature of the divergence, > 0.
        scale_by_tau2: Multiply the divergence by tau^2.
        feature_weight: Weight of the feature loss, >= 0; 0 leaves it out.
        feature_loss: Config of :class:`BranchFeatureLoss`; the main network is the detached side.
        adapters: One linear layer on every branch's feature before the feature loss; training only.
        exempt_deepest: Leave the deepest branch out of the feature loss, as the journal's code.
        **kwargs: ``neck`` (options of :class:`BYOTNeck`), ``predict_from``, ``head``, .. of
            :class:`BranchedClassifier`.

    Raises:
        ValueError: If a weight is out of range.
    """

    neck_type = 'mmkdfuse.BYOTNeck'

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
        **kwargs: Any,
    ) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f'BYOT: alpha={alpha} must be in [0, 1].')
        if not tau > 0:
            raise ValueError(f'BYOT: tau={tau} must be positive.')
        if feature_weight < 0:
            raise ValueError(f'BYOT: feature_weight={feature_weight} must not be negative.')
        super().__init__(backbone, num_classes, image_size, **kwargs)
        self.alpha, self.tau = alpha, tau
        self.kl_weight = alpha * tau**2 if scale_by_tau2 else alpha
        # Branches under the feature loss.
        self.taught = self.num_heads - 1 - exempt_deepest
        self.feature_weight = feature_weight if self.taught else 0.0
        loss = {'type': 'mmkdfuse.BranchFeatureLoss', 'reduction': 'norm', **(feature_loss or {})}
        self.feature_loss = MODELS.build({**loss, 'detach': 'main'})
        width = self.neck.out_channels
        count = self.taught if adapters and self.feature_weight else 0
        self.adapters = nn.ModuleList(nn.Linear(width, width) for _ in range(count))

    def _losses(self, output: NetworkOutput, targets: Tensor) -> dict[str, Tensor]:
        branches = self.num_heads - 1
        terms = self._cross_entropies(output, targets, [1 - self.alpha] * branches + [1.0])
        *branch_logits, main_logits = output.logits
        if self.alpha > 0:
            teacher = main_logits.detach().expand(branches, *main_logits.shape)
            divergence = soft_kl(teacher, torch.stack(branch_logits), self.tau)
            terms['loss_kl'] = self.kl_weight * branches * divergence
        if self.feature_weight > 0:
            features = list(output.features[: self.taught])
            for index, adapter in enumerate(self.adapters):
                features[index] = adapter(features[index])
            distance = self.feature_loss(output.features[-1], features)
            terms['loss_feature'] = self.feature_weight * distance
        return terms
