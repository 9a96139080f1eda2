"""A network that grows branches: what all self-distilling classifiers share."""

from collections.abc import Sequence
from typing import Any

from mmpretrain.models.classifiers import ImageClassifier
from torch import Tensor

from mmkdfuse.models.classifiers.classifier import plain_classifier
from mmkdfuse.models.classifiers.multi_head import MultiHeadClassifier
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import NetworkOutput


class BranchedClassifier(MultiHeadClassifier):
    """One network with branches at its stages; every head is scored, the main one ships.

    A subclass names its neck and returns the terms of its loss. A convolution that a network has
    behind its last stage (ShuffleNetV2, MobileNetV2) is not built: branches imitate the last stage
    and have its channels, so the main classifier reads that stage too.

    Args:
        backbone: As for :class:`Classifier`; must yield at least two stage maps.
        num_classes: K.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
        neck: Options of the neck that makes the branches; ``stage_shapes`` is filled in.
        **kwargs: ``predict_from``, ``head``, .. of :class:`MultiHeadClassifier`.

    Raises:
        ValueError: If there are too few stages.
    """

    neck_type: str

    def __init__(
        self,
        backbone: str | dict,
        num_classes: int,
        image_size: int | Sequence[int],
        neck: dict | None = None,
        **kwargs: Any,
    ) -> None:
        self._neck_cfg = dict(neck or {})
        super().__init__(backbone, num_classes, image_size, **kwargs)

    def _build_top(self, head: dict | None) -> None:
        self.neck = MODELS.build(
            {'type': self.neck_type, **self._neck_cfg, 'stage_shapes': self.stage_shapes}
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
    def num_heads(self) -> int:
        """M: branches and main network."""
        return self.neck.num_features

    def forward_network(self, inputs: Tensor) -> NetworkOutput:
        """Run backbone, branches and classifiers once on (N, 3, H, W) images."""
        stages = tuple(self.backbone(inputs))
        features = self.neck(stages)
        return NetworkOutput(stages, features, tuple(self.head(features)))

    def deployed(self) -> ImageClassifier:
        """Return the main network as the plain mmpretrain classifier that ships, branches gone."""
        return plain_classifier(self.backbone, self.head.main)  # type: ignore[arg-type]

    def describe(self) -> list[str]:
        """Return what the dry run found and how the branches were planned, one line a fact."""
        return [*super().describe(), *self.neck.describe()]
