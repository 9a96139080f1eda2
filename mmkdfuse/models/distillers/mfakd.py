"""Multilevel feature-aligned knowledge distillation (MFAKD)."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkdfuse.models.classifiers.classifier import cross_entropy
from mmkdfuse.models.distillers.base import Distiller
from mmkdfuse.models.heads.mean_head import MeanHead
from mmkdfuse.models.necks.aligned_neck import AlignedNeck
from mmkdfuse.models.necks.aligned_necks import AlignedNecks
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import NetworkOutput


def root_mean_square(aligned: Tensor, target: Tensor) -> Tensor:
    """Root of the mean squared difference; its gradient is 0, not NaN, where they are equal."""
    return torch.linalg.vector_norm(aligned - target) / target.numel() ** 0.5


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    'mse': F.mse_loss,
    'smooth_l1': F.smooth_l1_loss,
    'rmse': root_mean_square,
}


@MODELS.register_module()
class MFAKD(Distiller):
    """The student's last map imitates the teacher's and is read by the teacher's own classifier.

    "Aligning to the teacher: multilevel feature-aligned knowledge distillation" (Zhang et al.,
    2025), eq. 5: the map is resized to the teacher's, goes through parallel projectors (MBCA), and
    one loss to the teacher's last map trains all of it; no labels are needed. The target is the map
    that the teacher's classifier pools, after its activation, and it is never resized, except with
    ``upsample=None``, which pools it to a smaller student's size.

    Training, validation and deployment score the same path: student, connector, teacher's
    classifier (a frozen copy, part of the checkpoint). The released code scores the student's own
    classifier instead, which nothing trains; here it is not built, nor is the student's convolution
    behind the last stage. Terms: ``loss_align``, and ``loss_ce`` with ``beta`` or ``loss='ce'``.

    Args:
        student: As for :class:`Distiller`.
        teacher: As for :class:`Distiller`; several teachers give several connectors, the mean of
            their losses, and the mean of their classifiers' logits.
        num_classes: K.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
        connector: Config of the connector, default ``dict(type='MBCAConnector')``.
        loss: ``'mse'`` (mean over all elements), ``'smooth_l1'``, ``'rmse'``, or ``'ce'``:
            cross-entropy of the deployed logits with the labels instead of a distance (Table 3).
        alpha: Weight of that loss, > 0.
        beta: Weight of the cross-entropy of the deployed logits beside it, >= 0 (Table 5; in the
            released code it would act on the student's own classifier).
        **kwargs: ``verify_teacher``, ``data_preprocessor``, ..

    Raises:
        ValueError: If an argument is out of range.
    """

    asks_logits = False
    asks_stages = slice(-1, None)
    default_connector: dict = dict(type='mmkdfuse.MBCAConnector')

    def __init__(
        self,
        student: str | dict,
        teacher: str | dict | Sequence[str | dict],
        num_classes: int,
        image_size: int | Sequence[int],
        connector: dict | None = None,
        loss: str = 'mse',
        alpha: float = 1.0,
        beta: float = 0.0,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        if loss not in (*DISTANCES, 'ce'):
            raise ValueError(f'{name}: loss={loss!r} must be one of {(*DISTANCES, "ce")}.')
        if not alpha > 0 or beta < 0:
            raise ValueError(f'{name}: alpha={alpha} must be > 0 and beta={beta} >= 0.')
        self.connector_config = {**self.default_connector, **(connector or {})}
        # Its terms are computed in one pass through the connectors, none by the base class.
        super().__init__(
            student,
            teacher,
            num_classes,
            image_size,
            ce_weight=0.0,
            kd_weight=0.0,
            tau=1.0,
            **kwargs,
        )
        self.distance, self.alpha, self.beta = DISTANCES.get(loss), alpha, beta

    def _build_top(self, head: dict | None) -> None:
        """Put connectors and copies of the teachers' classifiers on the student."""
        shape = self.stage_shapes[-1]
        paths = [
            AlignedNeck(
                shape,
                teacher.stage_shapes[-1],
                self.connector_config,
                copy.deepcopy(teacher.network.neck),
            )
            for teacher in self.teachers
        ]
        heads = [copy.deepcopy(teacher.network.head) for teacher in self.teachers]
        self.neck = paths[0] if len(paths) == 1 else AlignedNecks(paths)
        self.head = heads[0] if len(heads) == 1 else MeanHead(heads)

    @property
    def paths(self) -> list[AlignedNeck]:
        """One neck for every teacher."""
        return list(self.neck.paths) if isinstance(self.neck, AlignedNecks) else [self.neck]

    def _reused(self) -> list[tuple[nn.Module, nn.Module]]:
        """Every frozen module with the teacher's, of which it is a copy."""
        heads = self.head.heads if isinstance(self.head, MeanHead) else [self.head]
        pairs = []
        for teacher, path, head in zip(self.teachers, self.paths, heads, strict=True):
            pairs.append((head, teacher.network.head))
            if path.teacher_neck is not None:
                pairs.append((path.teacher_neck, teacher.network.neck))
        return pairs

    def train(self, mode: bool = True) -> 'MFAKD':
        """Set the mode of student and connectors; the teachers' classifiers stay in eval mode."""
        super().train(mode)
        for own, _ in self._reused():
            own.eval()
        return self

    def init_weights(self) -> None:
        """Initialise student and connectors, load the teachers and copy their classifiers."""
        super().init_weights()
        for own, original in self._reused():
            own.load_state_dict(original.state_dict())

    def check_teachers(self) -> None:
        """Raise if the classifiers are not the teachers', as after a resume with another file.

        Raises:
            RuntimeError: If a weight differs.
        """
        for own, original in self._reused():
            pairs = zip(own.state_dict().values(), original.state_dict().values(), strict=True)
            if not all(torch.equal(ours, theirs) for ours, theirs in pairs):
                files = ', '.join(repr(str(teacher.checkpoint)) for teacher in self.teachers)
                raise RuntimeError(
                    f'teacher.checkpoint={files} has another classifier than the weights that '
                    'training goes on from, expected the teacher that they were distilled with.'
                )

    def forward_student(self, inputs: Tensor) -> NetworkOutput:
        """Run the backbone; connectors and classifiers follow in :meth:`terms`."""
        return NetworkOutput(tuple(self.backbone(inputs)), (), ())

    def terms(
        self, student: NetworkOutput, teachers: Sequence[NetworkOutput], targets: Tensor
    ) -> dict[str, Tensor]:
        """Return ``loss_align``, ``loss_ce`` or both."""
        goals = [teacher.stages[-1].float() for teacher in teachers]
        aligned = [
            path.align(student.stages[-1], (goal.shape[2], goal.shape[3]))
            for path, goal in zip(self.paths, goals, strict=True)
        ]
        terms = {}
        if self.distance is not None:
            distances = []
            for ours, goal in zip(aligned, goals, strict=True):
                if ours.shape[2:] != goal.shape[2:]:
                    goal = F.adaptive_avg_pool2d(goal, (ours.shape[2], ours.shape[3]))
                distances.append(self.distance(ours.float(), goal))
            terms['loss_align'] = self.alpha * torch.stack(distances).mean()
        weight = self.beta + (self.alpha if self.distance is None else 0.0)
        if weight:
            pairs = zip(self.paths, aligned, strict=True)
            logits = self.head(tuple(path.pool(each) for path, each in pairs))
            terms['loss_ce'] = weight * cross_entropy(logits, targets)
        return terms

    def describe(self) -> list[str]:
        """Return what the dry run found, one line a fact."""
        lines = super().describe()
        for teacher, path in zip(self.teachers, self.paths, strict=True):
            shapes = [
                'x'.join(map(str, shape)) for shape in (path.student_shape, path.teacher_shape)
            ]
            parameters = sum(p.numel() for p in path.connector.parameters())
            lines.append(
                f'connector to {teacher.name}: {" to ".join(shapes)}, {parameters:,} parameters'
            )
        return lines
