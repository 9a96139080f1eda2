"""Which parts of a trained model make up a head's classifier, and the config that builds it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmkdfuse.deploy.upstream import last_map_only, plain_backbone, plain_config
from mmkdfuse.models.classifiers.branched import BranchedClassifier
from mmkdfuse.models.classifiers.classifier import Classifier
from mmkdfuse.models.classifiers.multi_head import MultiHeadClassifier
from mmkdfuse.models.distillers.base import Distiller
from mmkdfuse.models.distillers.mfakd import MFAKD
from mmkdfuse.models.networks import network_config
from mmkdfuse.models.teacher import Teacher, resolve_network


@dataclass(frozen=True)
class Plan:
    """A plain classifier and where its weights come from.

    Attributes:
        config: mmpretrain's ``ImageClassifier``, the data preprocessor left out.
        weights: Trained modules by the prefix that their weights have in it.
    """

    config: dict[str, Any]
    weights: dict[str, nn.Module]


def heads_of(model: nn.Module) -> tuple[str, ...]:
    """Names of the heads that a model can be deployed with.

    Raises:
        ValueError: If it is no classifier of this package.
    """
    if not isinstance(model, Classifier):
        raise ValueError(
            f'model={type(model).__name__} has no heads to deploy, expected a Classifier or one of '
            'its subclasses such as KFMSD.'
        )
    names = model.head_names if isinstance(model, MultiHeadClassifier) else ('main',)
    # The ensemble of several networks would be no plain classifier.
    return (*names, 'ensemble') if isinstance(model, BranchedClassifier) else names


def logits_of(model: nn.Module, head: str, images: Tensor) -> Tensor:
    """Logits (N, K) of one head of a trained model for images (N, 3, H, W)."""
    output = model(images)
    logits = output if isinstance(output, tuple) else (output,)
    return torch.stack(logits).mean(dim=0) if head == 'ensemble' else logits[_index(model, head)]


def plan_head(model: Any, cfg: dict, head: str) -> Plan:
    """Plan the classifier of one head.

    Args:
        model: The trained model.
        cfg: The config it was built from.
        head: One of :func:`heads_of`.
    """
    if isinstance(model, MFAKD):
        return _aligned(model, cfg)
    if isinstance(model, Distiller):
        return _main(model, _network(cfg['student']))
    if head == 'main':
        return _main(model, cfg)
    if isinstance(model, BranchedClassifier):
        return _ensemble(model, cfg) if head == 'ensemble' else _branch(model, cfg, head)
    # Several networks side by side (DML).
    index, peers = _index(model, head), cfg.get('peers', 1)
    backbone = cfg['backbone'] if isinstance(peers, int) else peers[index]
    return _main(model.peers[index], dict(backbone=backbone))


def _index(model: nn.Module, head: str) -> int:
    return model.head_names.index(head) if isinstance(model, MultiHeadClassifier) else 0


def _classifier(backbone: dict, neck: dict, head: dict) -> dict:
    return dict(type='mmpretrain.ImageClassifier', backbone=backbone, neck=neck, head=head)


def _main_head(model: Any, cfg: dict, in_channels: int) -> dict:
    head = cfg.get('head') or network_config(cfg['backbone']).get('head')
    head = plain_config(head or dict(type='mmpretrain.LinearClsHead'))
    return {**head, 'num_classes': model.num_classes, 'in_channels': in_channels}


def _backbone(model: Any, cfg: dict) -> dict:
    return plain_backbone(network_config(cfg['backbone'])['backbone'], model.backbone)


def _neck(model: Any, cfg: dict) -> dict:
    neck = {'type': model.neck_type, **(cfg.get('neck') or {})}
    return plain_config({**neck, 'stage_shapes': model.stage_shapes})


def _main(model: Any, cfg: dict) -> Plan:
    branched = isinstance(model, BranchedClassifier)
    channels = model.stage_shapes[-1][0]
    neck: dict[str, Any] = dict(type='mmpretrain.GlobalAveragePooling')
    weights = {'backbone': model.backbone, 'head': model.head.main if branched else model.head}
    own_neck = network_config(cfg['backbone']).get('neck')
    if own_neck and not branched:
        neck = {**plain_config(own_neck), 'in_channels': channels}
        weights['neck'], channels = model.neck, model.neck.out_channels
    head = _main_head(model, cfg, channels)
    return Plan(_classifier(last_map_only(_backbone(model, cfg)), neck, head), weights)


def _branch(model: Any, cfg: dict, head: str) -> Plan:
    index = _index(model, head)
    path = model.neck.path(index)
    truncated = dict(
        type='mmkdfuse.TruncatedBackbone',
        backbone=_backbone(model, cfg),
        stages=path.stages_read,
        image_size=model.image_size,
    )
    linear = dict(
        type='mmpretrain.LinearClsHead',
        num_classes=model.num_classes,
        in_channels=model.neck.out_channels,
    )
    neck = dict(type='mmkdfuse.BranchPath', neck=_neck(model, cfg), branch=index + 1)
    weights = {
        'backbone.network': model.backbone,
        'neck.path': path,
        'head.fc': model.head.branches[index],
    }
    return Plan(_classifier(truncated, neck, linear), weights)


def _ensemble(model: Any, cfg: dict) -> Plan:
    head = dict(
        type='mmkdfuse.EnsembleHead',
        num_classes=model.num_classes,
        in_channels=model.neck.out_channels,
        num_features=model.num_heads,
        main=_main_head(model, cfg, model.neck.out_channels),
    )
    weights = {'backbone': model.backbone, 'neck': model.neck, 'head.heads': model.head}
    return Plan(_classifier(_backbone(model, cfg), _neck(model, cfg), head), weights)


def _network(named: str | dict) -> dict:
    """Config of the classifier that a student's or teacher's config stands for."""
    spec = resolve_network(named)
    return spec.classifier or dict(backbone=spec.backbone, head=spec.head)


def _aligned(model: MFAKD, cfg: dict) -> Plan:
    """Plan the student, its connectors and the teachers' classifiers."""
    named = cfg['teacher']
    each = zip(
        model.teachers,
        [named] if isinstance(named, (str, dict)) else named,
        model.paths,
        strict=True,
    )
    necks, heads = [], []
    for teacher, config, path in each:
        teacher_neck, head = _top(teacher, _network(config))
        heads.append(head)
        necks.append(
            dict(
                type='mmkdfuse.AlignedNeck',
                student_shape=path.student_shape,
                teacher_shape=path.teacher_shape,
                connector=plain_config(model.connector_config),
                teacher_neck=teacher_neck,
            )
        )
    several = len(heads) > 1
    neck = dict(type='mmkdfuse.AlignedNecks', paths=necks) if several else necks[0]
    head = dict(type='mmkdfuse.MeanHead', heads=heads) if several else heads[0]
    backbone = last_map_only(_backbone(model, _network(cfg['student'])))
    weights = {'backbone': model.backbone, 'neck': model.neck, 'head': model.head}
    return Plan(_classifier(backbone, neck, head), weights)


def _top(teacher: Teacher, cfg: dict) -> tuple[dict | None, dict]:
    """Configs of what a teacher has between its last map and its logits: neck and head."""
    if isinstance(teacher.trained, Classifier):
        plain = _main(teacher.trained, cfg).config
        return plain['neck'], plain['head']
    neck = cfg.get('neck')
    return neck and plain_config(neck), plain_config(cfg['head'])
