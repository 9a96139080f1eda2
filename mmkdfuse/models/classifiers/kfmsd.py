"""Knowledge-fusion mutual self-distillation (KFMSD)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmpretrain.models.classifiers import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmkdfuse.models.classifiers.classifier import (
    Classifier,
    cross_entropy,
    make_predictions,
    plain_classifier,
)
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import NetworkOutput


@MODELS.register_module()
class KFMSD(Classifier):
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
        neck: Options of :class:`KFMNeck`; ``stage_shapes`` is filled in.
        head: Config of the main classifier; default the network's own, else one linear layer.
        mutual_loss: Config of eq. 8, or None to leave it out.
        feature_loss: Config of eq. 9, or None to leave it out.
        gamma: Weight of the mutual loss, in [0, 1]; the paper's 0.7.
        delta: Weight of the feature loss, >= 0; the paper's 0.03.
        predict_from: Head behind ``pred_score``: ``'main'``, ``'ensemble'`` (softmax of the mean
            of all logits) or ``'branch1'``, ``'branch2'``, ..

    Raises:
        ValueError: If a weight is out of range, a head does not exist or there are too few stages.
    """

    def __init__(
        self,
        backbone: str | dict,
        num_classes: int,
        image_size: int | Sequence[int],
        neck: dict | None = None,
        head: dict | None = None,
        mutual_loss: dict | None = dict(type='mmkdfuse.MutualKLLoss'),  # noqa: B006
        feature_loss: dict | None = dict(type='mmkdfuse.BranchFeatureLoss'),  # noqa: B006
        gamma: float = 0.7,
        delta: float = 0.03,
        predict_from: str = 'main',
        data_preprocessor: dict | nn.Module | None = None,
        train_cfg: dict | None = None,
        pretrained: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if not 0 <= gamma <= 1:
            raise ValueError(f'KFMSD: gamma={gamma} must be in [0, 1].')
        if delta < 0:
            raise ValueError(f'KFMSD: delta={delta} must not be negative.')
        self._neck_cfg = dict(neck or {})
        super().__init__(
            backbone,
            num_classes,
            image_size,
            head=head,
            data_preprocessor=data_preprocessor,
            train_cfg=train_cfg,
            pretrained=pretrained,
            init_cfg=init_cfg,
        )
        self.gamma = gamma if mutual_loss else 0.0
        self.delta = delta if feature_loss else 0.0
        self.mutual_loss = MODELS.build({'type': 'mmkdfuse.MutualKLLoss', **(mutual_loss or {})})
        self.feature_loss = MODELS.build(
            {'type': 'mmkdfuse.BranchFeatureLoss', **(feature_loss or {})}
        )
        if predict_from not in (*self.head_names, 'ensemble'):
            raise ValueError(
                f'KFMSD: predict_from={predict_from!r} must be one of '
                f'{(*self.head_names, "ensemble")}.'
            )
        self.predict_from = predict_from

    def _build_top(self, head: dict | None) -> None:
        self.neck = MODELS.build(
            {'type': 'mmkdfuse.KFMNeck', **self._neck_cfg, 'stage_shapes': self.stage_shapes}
        )
        self.head = MODELS.build(
            dict(
                type='mmkdfuse.BranchHead',
                num_classes=self.num_classes,
                in_channels=self.neck.out_channels,
                num_features=self.neck.num_features,
                main=head,
            )
        )

    @property
    def head_names(self) -> tuple[str, ...]:
        """Names of the heads in the order of their logits: ``branch1``, .., ``main``."""
        branches = range(1, self.neck.num_features)
        return (*(f'branch{number}' for number in branches), 'main')

    def forward_network(self, inputs: Tensor) -> NetworkOutput:
        """Run backbone, branches and classifiers once on (N, 3, H, W) images."""
        stages = tuple(self.backbone(inputs))
        features = self.neck(stages)
        return NetworkOutput(stages, features, tuple(self.head(features)))

    def _tensor(self, output: NetworkOutput) -> tuple[Tensor, ...]:
        return output.logits

    def _losses(self, output: NetworkOutput, targets: Tensor) -> dict[str, Tensor]:
        terms = {
            f'loss_ce_{name}': (1 - self.gamma) * cross_entropy(logits, targets)
            for name, logits in zip(self.head_names, output.logits, strict=True)
        }
        *branch_logits, main_logits = output.logits
        *branch_features, main_feature = output.features
        if self.gamma > 0:
            terms['loss_mutual_kl'] = self.gamma * self.mutual_loss(main_logits, branch_logits)
        if self.delta > 0:
            terms['loss_feature'] = self.delta * self.feature_loss(main_feature, branch_features)
        return terms

    def _predict(
        self, output: NetworkOutput, data_samples: Tensor | Sequence[DataSample] | None
    ) -> list[DataSample]:
        logits = torch.stack(output.logits, dim=1).float()
        if self.predict_from == 'ensemble':
            chosen = logits.mean(dim=1)
        else:
            chosen = logits[:, self.head_names.index(self.predict_from)]
        return make_predictions(chosen, data_samples, F.softmax(logits, dim=-1))

    def deployed(self) -> ImageClassifier:
        """Return the main network as the plain mmpretrain classifier that ships, branches gone."""
        return plain_classifier(self.backbone, self.head.main)  # type: ignore[arg-type]

    def describe(self) -> list[str]:
        """Return what the dry run found and how the branches were planned, one line a fact."""
        plans = [f'branch{number}: {plan}' for number, plan in enumerate(self.neck.plans, start=1)]
        return [*super().describe(), *plans]
