"""Multilevel feature-aligned knowledge distillation (MFAKD)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmkdfuse.models.classifiers.aligned import AlignedClassifier
from mmkdfuse.models.classifiers.distiller import Distiller, student_spec
from mmkdfuse.models.losses.alignment import DISTANCES, AlignmentLoss
from mmkdfuse.models.losses.classification import ClassificationLoss
from mmkdfuse.models.teachers.teacher import TeacherLike, build_teachers
from mmkdfuse.registry import MODELS


@MODELS.register_module()
class MFAKD(Distiller):
    """Student whose last map imitates the teacher's and is read by the teacher's own classifier.

    "Aligning to the teacher: multilevel feature-aligned knowledge distillation" (Zhang et al.,
    2025), eq. 5. The map is resized to the teacher's and goes through parallel projectors (MBCA).
    One distance to the teacher's last map trains all of it; no labels are needed. The alignment
    target is the map that the teacher's classifier pools, after its activation. It is never
    resized, except with ``upsample=None``, which pools it to a smaller student's size.

    Training, validation and deployment score the same path: student, connector, teacher's
    classifier (a frozen copy, part of the checkpoint). The released code scores the student's own
    classifier instead, which nothing trains; here it is not built, nor is the student's convolution
    behind the last stage. Terms: ``loss_align``, and ``loss_ce`` with ``beta`` or ``loss='ce'``.

    Args:
        student: As for :class:`Distiller`, a plain network.
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
        normalize: None for the printed form; ``'variance'`` divides the distance by the variance of
            the teacher's map over the training set, so that alpha means the same for every teacher.
        losses: Further losses.
        **kwargs: ``verify_teacher``, ``data_preprocessor``, ..

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> model = MFAKD('resnet8x4', 'resnet32x4', num_classes=100, image_size=32)
        >>> list(model.losses)
        ['AlignmentLoss']
    """

    default_connector: dict = dict(type='mmkdfuse.MBCAConnector')

    def __init__(
        self,
        student: str | dict,
        teacher: TeacherLike,
        num_classes: int,
        image_size: int | Sequence[int],
        connector: dict | None = None,
        loss: str = 'mse',
        alpha: float = 1.0,
        beta: float = 0.0,
        normalize: str | None = None,
        losses: Sequence = (),
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        if loss not in (*DISTANCES, 'ce'):
            raise ValueError(f'{name}: loss={loss!r} must be one of {(*DISTANCES, "ce")}.')
        if not alpha > 0 or beta < 0:
            raise ValueError(f'{name}: alpha={alpha} must be > 0 and beta={beta} >= 0.')
        spec = student_spec(student, num_classes, image_size, name)
        if not spec.is_plain or spec.others:
            raise ValueError(
                f'{name}: student={spec.name!r} is a {spec.type}, expected a plain network: its '
                'own classifier is not built.'
            )
        teachers = build_teachers(teacher, num_classes, image_size)
        for each in teachers:
            each.check_class_count(num_classes)
        connector = {**self.default_connector, **(connector or {})}
        network = AlignedClassifier(spec, teachers, num_classes, image_size, connector)
        by_labels = loss == 'ce'
        if by_labels and normalize:
            raise ValueError(f"{name}: normalize={normalize!r} would be ignored with loss='ce'.")
        own = [ClassificationLoss(beta + alpha * by_labels, name='loss_ce')]
        if not by_labels:
            own.insert(0, AlignmentLoss(alpha, loss, len(teachers), normalize))
        super().__init__(
            network,
            teachers,
            num_classes,
            image_size,
            losses=[*own, *losses],
            ce_weight=None,
            kd_weight=0.0,
            tau=None,
            **kwargs,
        )
        self.alpha, self.beta = alpha, beta

    def init_weights(self) -> None:
        """Initialise student and connectors, load the teachers and copy their classifiers."""
        super().init_weights()
        self.student.copy_classifiers()

    def check_teachers(self) -> None:
        """Raise if the classifiers are not the teachers', as after a resume with another file."""
        self.student.check_classifiers()
