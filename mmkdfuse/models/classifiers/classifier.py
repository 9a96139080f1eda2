"""A single network, trained and scored on whole batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmpretrain.models.classifiers import ImageClassifier
from torch import Tensor, nn

from mmkdfuse.models.classifiers.network import Export
from mmkdfuse.models.classifiers.single_backbone import (
    Body,
    SingleBackbone,
    check_num_classes,
    plain_classifier,
    plain_head,
)
from mmkdfuse.models.filled_in import completed
from mmkdfuse.models.heads.branch_head import build_main_head
from mmkdfuse.models.inference.plain_config import last_map_only, plain_config
from mmkdfuse.models.losses.classification import with_task_loss
from mmkdfuse.models.losses.loss import Loss
from mmkdfuse.models.necks.pooling import POOLING, build_neck
from mmkdfuse.models.teachers.teacher import TeacherLike, build_teachers
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import MAIN, NetworkOutput, TapKeys


@MODELS.register_module()
class Classifier(SingleBackbone):
    """mmpretrain's ``ImageClassifier`` without typed-in shapes, for whole batches.

    Channels of the classifier are read off the backbone by one dry run. A network by name comes
    with its own classifier and, where it has one, its last convolution. Labels may be one tensor
    instead of a list of samples, so that no Python object per image is made in training.

    Args:
        backbone: A network's name (``'resnet18'``), a name with changes
            (``dict(arch='resnet18', base_channels=16)``) or any mmpretrain backbone config.
        num_classes: K.
        image_size: Side length or (height, width) of the dry run's image, in pixels. Images of
            other sizes can be fed later.
        neck: Config of the module between the last map and the classifier; default the network's
            own, else global average pooling.
        head: Config of the classifier; default the network's own, else one linear layer.
            ``num_classes`` and ``in_channels`` are filled in. Its ``loss`` counts, and its ``topk``
            with ``cal_acc``.
        teacher: Networks that teach, as for :class:`Distiller`.
        losses: Losses beside the head's own, which a ``ClassificationLoss`` in the list replaces.
        views: Config of a module that makes several views of every image in training.
        **kwargs: ``data_preprocessor``, ``init_cfg``, .. of :class:`SingleBackbone`.

    Raises:
        ValueError: If the backbone is unknown or yields no (N, C, H, W) maps.

    Example:
        >>> import torch
        >>> model = Classifier(dict(arch='resnet18', base_channels=4), 10, image_size=32)
        >>> model(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        backbone: str | dict,
        num_classes: int,
        image_size: int | Sequence[int],
        neck: dict | None = None,
        head: dict | None = None,
        teacher: TeacherLike = None,
        losses: Sequence[dict | Loss] = (),
        views: dict | nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        check_num_classes(num_classes)
        teachers = build_teachers(teacher, num_classes, image_size)
        body = Body.build(backbone, image_size)
        shape = body.stage_shapes[-1]
        neck_config = neck or body.config.get('neck') or POOLING
        neck_config = completed(neck_config, in_channels=shape[0])
        head_config = head or body.config.get('head')
        built_neck, channels = build_neck(neck_config, shape)
        built_head = build_main_head(head_config, num_classes, channels)
        super().__init__(body, built_neck, built_head, num_classes, image_size, **kwargs)
        self._plain_neck = plain_config(neck_config)
        self._plain_head = plain_head(head_config, num_classes, channels)
        self.has_own_losses = bool(losses)
        self.assemble(with_task_loss(losses), teachers, views)

    @property
    def main_head(self) -> nn.Module:
        """The classifier."""
        return self.head

    def read(self, maps: Sequence[Tensor], taps: TapKeys) -> NetworkOutput:
        """Compute the tensors that are read from the backbone's stage maps."""
        features: dict[str, Tensor] = {}
        logits: dict[str, Tensor] = {}
        if taps.features or taps.logits:
            pooled = tuple(self.neck(tuple(maps[-1:])))
            features = dict.fromkeys(taps.features, pooled[-1])
            logits = {head: self.head(pooled) for head in taps.logits}
        return NetworkOutput(len(self.stage_shapes), self.maps_read(maps, taps), features, logits)

    def deployed(self) -> ImageClassifier:
        """Return the plain mmpretrain classifier that ships, sharing this model's weights."""
        return plain_classifier(self.backbone, self.head, self.neck)

    def export(self, head: str = MAIN) -> Export:
        """Return the plain classifier's config and weights."""
        config = dict(
            type='mmpretrain.ImageClassifier',
            backbone=last_map_only(self.body.plain_config),
            neck=dict(self._plain_neck),
            head=dict(self._plain_head),
        )
        return Export(config, {'backbone': self.backbone, 'neck': self.neck, 'head': self.head})
