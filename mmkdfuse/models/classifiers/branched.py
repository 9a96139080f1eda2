"""A network that grows branches, for all self-distilling classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmpretrain.models.classifiers import ImageClassifier
from torch import Tensor, nn

from mmkdfuse.models.classifiers.multi_head import ENSEMBLE, MultiHead, branch_names
from mmkdfuse.models.classifiers.network import Export
from mmkdfuse.models.classifiers.single_backbone import (
    LINEAR,
    Body,
    SingleBackbone,
    check_num_classes,
    plain_classifier,
    plain_head,
)
from mmkdfuse.models.filled_in import filled_in
from mmkdfuse.models.inference.plain_config import last_map_only, plain_config
from mmkdfuse.models.losses.classification import with_task_loss
from mmkdfuse.models.losses.loss import Loss
from mmkdfuse.models.teachers.teacher import TeacherLike, build_teachers
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import MAIN, NetworkOutput, TapKeys


@MODELS.register_module()
class BranchedClassifier(MultiHead, SingleBackbone):
    """One network with branches at its stages; every head is scored, the main one ships.

    By itself it trains every head on the labels (paper 000's Loss_TL); a method is a subclass, or a
    config, with more losses. A convolution that a network has behind its last stage (ShuffleNetV2,
    MobileNetV2) is not built. Branches imitate the last stage and have its channels, so the main
    classifier reads that stage too.

    Args:
        backbone: As for :class:`Classifier`; must yield at least two stage maps.
        num_classes: K.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
        neck: Options of the neck that makes the branches; ``stage_shapes`` is filled in.
        head: Config of the main classifier, as for :class:`Classifier`.
        branch_classes: Classes of the branches' classifiers where they are not the K of the task,
            such as joint labels of class and rotation; the labels then train the main head alone.
        predict_from: Head behind ``pred_score``: ``'main'``, ``'ensemble'`` (softmax of the mean
            of all logits) or ``'branch1'``, ``'branch2'``, ..
        teacher: Networks that teach, as for :class:`Distiller`.
        losses: Losses beside the heads' own, which a ``ClassificationLoss`` in the list replaces.
        views: Config of a module that makes several views of every image in training.
        **kwargs: ``data_preprocessor``, ``init_cfg``, .. of :class:`SingleBackbone`.

    Raises:
        ValueError: If there are too few stages, or the head to predict from does not exist.

    Example:
        >>> import torch
        >>> model = BranchedClassifier(dict(arch='resnet18', base_channels=4), 10, 32)
        >>> [tuple(logits.shape) for logits in model(torch.zeros(2, 3, 32, 32))]
        [(2, 10), (2, 10), (2, 10), (2, 10)]
    """

    neck_type: str = 'mmkdfuse.KFMNeck'

    def __init__(
        self,
        backbone: str | dict,
        num_classes: int,
        image_size: int | Sequence[int],
        neck: dict | None = None,
        head: dict | None = None,
        branch_classes: int | None = None,
        predict_from: str = MAIN,
        teacher: TeacherLike = None,
        losses: Sequence[dict | Loss] = (),
        views: dict | nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        check_num_classes(num_classes)
        if branch_classes is not None:
            check_num_classes(branch_classes, 'branch_classes')
        teachers = build_teachers(teacher, num_classes, image_size)
        body = Body.build(backbone, image_size)
        neck_config = filled_in(
            'neck',
            {'type': self.neck_type, **(neck or {})},
            'a dry run of the backbone',
            stage_shapes=body.stage_shapes,
        )
        head_config = head or body.config.get('head')
        built_neck: Any = MODELS.build(neck_config)
        self_heads = dict(
            num_classes=num_classes,
            in_channels=built_neck.out_channels,
            num_features=built_neck.num_features,
            branch_classes=branch_classes,
        )
        built_head = MODELS.build(dict(type='mmkdfuse.BranchHead', main=head_config, **self_heads))
        super().__init__(body, built_neck, built_head, num_classes, image_size, **kwargs)
        self.head_names = branch_names(built_neck.num_features - 1)
        self.branch_classes = branch_classes or num_classes
        self._plain_neck = plain_config(neck_config)
        self._plain_head = plain_head(head_config, num_classes, built_neck.out_channels)
        self.choose_head(predict_from)
        self.assemble(with_task_loss(losses, heads=self.scored_heads), teachers, views)

    @property
    def scored_heads(self) -> tuple[str, ...]:
        """Heads that score the K classes, the main one last."""
        return self.head_names if self.branch_classes == self.num_classes else (MAIN,)

    @property
    def main_head(self) -> nn.Module:
        """The main network's classifier."""
        return self.head.main

    def read(self, maps: Sequence[Tensor], taps: TapKeys) -> NetworkOutput:
        """Compute the tensors that are read from the backbone's stage maps."""
        features: dict[str, Tensor] = {}
        logits: dict[str, Tensor] = {}
        if {*taps.features, *taps.logits} == {MAIN}:  # branches that nobody reads do not run
            main = self.neck.main_feature(maps)
            features = dict.fromkeys(taps.features, main)
            logits = {head: self.head.main((main,)) for head in taps.logits}
        elif taps.features or taps.logits:
            every = self.neck(tuple(maps))
            named = dict(zip(self.head_names, every, strict=True))
            features = {head: named[head] for head in self.head_names if head in taps.features}
            if taps.logits:
                named = dict(zip(self.head_names, self.head(every), strict=True))
                logits = {head: named[head] for head in self.head_names if head in taps.logits}
        return NetworkOutput(len(self.stage_shapes), self.maps_read(maps, taps), features, logits)

    def deployed(self) -> ImageClassifier:
        """Return the main network as the plain mmpretrain classifier that ships, branches gone."""
        return plain_classifier(self.backbone, self.head.main, self.neck.pooling)

    def heads(self) -> tuple[str, ...]:
        """Names of the heads that can be deployed: every scored one and the ensemble."""
        scored = self.scored_heads
        return (*scored, ENSEMBLE) if len(scored) > 1 else scored

    def export(self, head: str = MAIN) -> Export:
        """Return a head as a plain classifier without the modules that it does not read."""
        if head == MAIN:
            return self._export_main()
        return self._export_ensemble() if head == ENSEMBLE else self._export_branch(head)

    def _export_main(self) -> Export:
        backbone = last_map_only(self.body.plain_config)
        config = _classifier(backbone, plain_config(self.neck.pooling_config), self._plain_head)
        weights = {
            'backbone': self.backbone,
            'neck': self.neck.pooling,
            'head': self.head.main,
        }
        return Export(config, weights)

    def _export_branch(self, head: str) -> Export:
        index = self.head_names.index(head)
        path = self.neck.path(index)
        truncated = dict(
            type='mmkdfuse.TruncatedBackbone',
            backbone=self.body.plain_config,
            stages=path.stages_read,
            image_size=self.image_size,
        )
        linear = plain_head(LINEAR, self.num_classes, self.neck.out_channels)
        neck = dict(type='mmkdfuse.BranchPath', neck=self._plain_neck, branch=index + 1)
        weights = {
            'backbone.network': self.backbone,
            'neck.path': path,
            'head.fc': self.head.branches[index],
        }
        return Export(_classifier(truncated, neck, linear), weights)

    def _export_ensemble(self) -> Export:
        head = dict(
            type='mmkdfuse.EnsembleHead',
            num_classes=self.num_classes,
            in_channels=self.neck.out_channels,
            num_features=self.num_heads,
            main=self._plain_head,
        )
        weights = {'backbone': self.backbone, 'neck': self.neck, 'head.heads': self.head}
        return Export(_classifier(self.body.plain_config, self._plain_neck, head), weights)

    def exits(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return path and classifier of every branch, shallow to deep, for early exits."""
        paths = (self.neck.path(index) for index in range(self.num_heads - 1))
        return list(zip(paths, self.head.branches, strict=True))

    def describe_network(self) -> list[str]:
        """Return the facts of the dry run and the plan of the branches, one line each."""
        return [*super().describe_network(), *self.neck.describe()]


def _classifier(backbone: dict, neck: dict, head: dict) -> dict:
    return dict(type='mmpretrain.ImageClassifier', backbone=backbone, neck=neck, head=head)
