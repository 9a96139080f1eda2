"""A student that is read by its teachers' classifiers (MFAKD, SimKD)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from mmpretrain.models.classifiers import ImageClassifier
from mmpretrain.models.heads import ClsHead
from torch import Tensor, nn

from mmkdfuse.models.classifiers.classifier import Classifier
from mmkdfuse.models.classifiers.network import Export
from mmkdfuse.models.classifiers.single_backbone import (
    Body,
    SingleBackbone,
    check_num_classes,
    plain_classifier,
)
from mmkdfuse.models.heads.mean_head import MeanHead
from mmkdfuse.models.heads.task_loss import TaskLoss, check_head
from mmkdfuse.models.inference.plain_config import last_map_only, plain_config
from mmkdfuse.models.losses.alignment import aligned_key
from mmkdfuse.models.necks.aligned_neck import AlignedNeck
from mmkdfuse.models.necks.aligned_necks import AlignedNecks
from mmkdfuse.models.teachers.network_spec import NetworkSpec
from mmkdfuse.models.teachers.teacher import Teacher
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import MAIN, NetworkOutput, TapKeys

CONNECTOR = 'connector'


class AlignedClassifier(SingleBackbone):
    """A backbone, a connector to every teacher's last map, and copies of the teachers' classifiers.

    The copies are frozen and part of the checkpoint. Several teachers give several connectors and
    the mean of their classifiers' logits. It can be read at ``aligned1``, ``aligned2``, ..

    Args:
        student: The network; its own classifier and neck are not built. The ``loss``, ``cal_acc``
            and ``topk`` of its head count.
        teachers: Networks whose classifiers are reused; :meth:`Teacher.main_parts` refuses others.
        num_classes: K.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
        connector: Config of the connector; channels and scale are filled in.

    Example:
        >>> from mmkdfuse.models.teachers import resolve_network
        >>> teacher = Teacher(dict(arch='resnet8x4', base_channels=8), 10, 32)
        >>> student = resolve_network(dict(arch='resnet8x4', base_channels=4))
        >>> connector = dict(type='mmkdfuse.MBCAConnector')
        >>> model = AlignedClassifier(student, [teacher], 10, 32, connector)
        >>> model.run(torch.zeros(1, 3, 32, 32), TapKeys(maps=('aligned1',))).map('aligned1').shape
        torch.Size([1, 32, 8, 8])
    """

    reuses_teachers = True

    def __init__(
        self,
        student: NetworkSpec,
        teachers: Sequence[Teacher],
        num_classes: int,
        image_size: int | Sequence[int],
        connector: dict,
    ) -> None:
        check_num_classes(num_classes)
        head = student.head or {}
        check_head(MODELS.get(head.get('type', 'mmpretrain.LinearClsHead')))
        body = Body.build(student.backbone, image_size)
        parts = [teacher.main_parts() for teacher in teachers]
        paths = [
            AlignedNeck(
                body.stage_shapes[-1], teacher.stage_shapes[-1], connector, copy.deepcopy(neck)
            )
            for teacher, (neck, _) in zip(teachers, parts, strict=True)
        ]
        heads = [copy.deepcopy(head) for _, head in parts]
        several = len(paths) > 1
        super().__init__(
            body,
            AlignedNecks(paths) if several else paths[0],
            MeanHead(heads) if several else heads[0],
            num_classes,
            image_size,
        )
        self._student, self._connector, self._taught_by = student, connector, tuple(teachers)
        self._own_heads = heads
        options = {key: head[key] for key in ('loss', 'cal_acc', 'topk') if key in head}
        self.student_loss = ClsHead(**options) if options else None
        self.assemble([])

    @property
    def paths(self) -> list[AlignedNeck]:
        """One neck for every teacher."""
        neck: Any = self.neck
        return list(neck.paths) if isinstance(neck, AlignedNecks) else [neck]

    @property
    def main_head(self) -> nn.Module:
        """The teachers' classifiers."""
        return self.head

    @property
    def task_loss(self) -> TaskLoss:
        """Loss that the student's head config says; its classifier is not built."""
        return TaskLoss(self.student_loss or nn.Identity())

    def read(self, maps: Sequence[Tensor], taps: TapKeys) -> NetworkOutput:
        """Compute the tensors that are read from the backbone's stage maps."""
        found = self.maps_read(maps, taps)
        features: dict[str, Tensor] = {}
        logits: dict[str, Tensor] = {}
        scored = bool(taps.features or taps.logits)
        if scored or any(key.startswith('aligned') for key in taps.maps):
            aligned = [path.align(maps[-1]) for path in self.paths]
            keys = (aligned_key(number) for number in range(1, len(aligned) + 1))
            found |= {
                key: each for key, each in zip(keys, aligned, strict=True) if key in taps.maps
            }
        if scored:
            pooled = tuple(path.pool(each) for path, each in zip(self.paths, aligned, strict=True))
            features = dict.fromkeys(taps.features, pooled[-1])
            logits = {head: self.head(pooled) for head in taps.logits}
        return NetworkOutput(len(self.stage_shapes), found, features, logits)

    def reused(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return every frozen module with the teacher's, of which it is a copy."""
        heads = self.head.heads if isinstance(self.head, MeanHead) else [self.head]
        pairs = []
        for teacher, path, head in zip(self._taught_by, self.paths, heads, strict=True):
            neck, original = teacher.main_parts()
            pairs.append((head, original))
            if path.teacher_neck is not None and neck is not None:
                pairs.append((path.teacher_neck, neck))
        return pairs

    def train(self, mode: bool = True) -> AlignedClassifier:
        """Set the mode of student and connectors; the teachers' classifiers stay in eval mode."""
        super().train(mode)
        frozen = [path.teacher_neck for path in self.paths if path.teacher_neck is not None]
        for module in (self.head, *frozen):
            module.eval()
        return self

    def copy_classifiers(self) -> None:
        """Take over the teachers' classifiers, once their weights are loaded."""
        for own, original in self.reused():
            own.load_state_dict(original.state_dict())

    def check_classifiers(self) -> None:
        """Raise if the classifiers are not the teachers', as after a resume with another file.

        Raises:
            RuntimeError: If a weight differs.
        """
        for own, original in self.reused():
            pairs = zip(own.state_dict().values(), original.state_dict().values(), strict=True)
            if not all(torch.equal(ours, theirs) for ours, theirs in pairs):
                files = ', '.join(repr(str(teacher.checkpoint)) for teacher in self._taught_by)
                raise RuntimeError(
                    f'teacher.checkpoint={files} has another classifier than the weights that '
                    'training goes on from, expected the teacher that they were distilled with.'
                )

    def deployed(self) -> ImageClassifier:
        """Return student, connectors and the teachers' classifiers as one plain classifier."""
        return plain_classifier(self.backbone, self.head, self.neck)

    def export(self, head: str = MAIN) -> Export:
        """Return student, connectors and the teachers' classifiers as a plain classifier."""
        necks, heads = [], []
        for teacher, path in zip(self._taught_by, self.paths, strict=True):
            config = teacher.export_main()
            heads.append(config['head'])
            necks.append(
                dict(
                    type='mmkdfuse.AlignedNeck',
                    student_shape=path.student_shape,
                    teacher_shape=path.teacher_shape,
                    connector=plain_config(self._connector),
                    teacher_neck=config.get('neck'),
                )
            )
        several = len(heads) > 1
        config = dict(
            type='mmpretrain.ImageClassifier',
            backbone=last_map_only(self.body.plain_config),
            neck=dict(type='mmkdfuse.AlignedNecks', paths=necks) if several else necks[0],
            head=dict(type='mmkdfuse.MeanHead', heads=heads) if several else heads[0],
        )
        return Export(config, {'backbone': self.backbone, 'neck': self.neck, 'head': self.head})

    def costs_beside(self, head: str) -> dict[str, nn.Module]:
        """Return the student with its own classifier, not built here, and the connector."""
        spec = self._student
        alone: Any = Classifier(
            spec.backbone, self.num_classes, self.image_size, spec.neck, spec.head
        )
        return {'student alone': alone.deployed(), CONNECTOR: _Alignment(self)}

    def describe_network(self) -> list[str]:
        """Return the facts of the dry run, one line each."""
        lines = super().describe_network()
        for teacher, path in zip(self._taught_by, self.paths, strict=True):
            shapes = [
                'x'.join(map(str, shape)) for shape in (path.student_shape, path.teacher_shape)
            ]
            parameters = sum(p.numel() for p in path.connector.parameters())
            lines.append(
                f'connector to {teacher.name}: {" to ".join(shapes)}, {parameters:,} parameters'
            )
        return lines


class _Alignment(nn.Module):
    """The connectors alone, on a stored map.

    Takes images, as networks do, and reads only how many there are.
    """

    student_map: Tensor

    def __init__(self, model: AlignedClassifier) -> None:
        super().__init__()
        self.connectors = nn.ModuleList(path.connector for path in model.paths)
        self.sizes = [path.teacher_shape[1:] for path in model.paths]
        self.register_buffer('student_map', torch.zeros(1, *model.stage_shapes[-1]))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the aligned maps of as many maps as there are images."""
        maps = self.student_map.expand(len(images), -1, -1, -1)
        pairs = zip(self.connectors, self.sizes, strict=True)
        return [connector(maps, size) for connector, size in pairs]
