"""What all teacher-student methods share."""

from collections.abc import Sequence
from typing import Any

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from mmkdfuse.models.classifiers.classifier import Classifier, cross_entropy, targets_of
from mmkdfuse.models.losses.soft_kl import soft_kl
from mmkdfuse.models.teacher import Teacher, attach, resolve_network
from mmkdfuse.structures import NetworkOutput


def mean_logits(teachers: Sequence[NetworkOutput]) -> Tensor:
    """Mean of the teachers' logits, (N, K)."""
    return torch.stack([teacher.logits[-1] for teacher in teachers]).mean(dim=0)


class Distiller(Classifier):
    """A student that trains with frozen teachers; what is scored and ships is the student.

    loss = ``ce_weight`` * cross-entropy + ``kd_weight`` * tau^2 KL(teacher || student) + the terms
    of the method, which a subclass returns from :meth:`terms`, weighted. Logged are ``loss_ce``,
    ``loss_kd`` and the method's names. Terms of weight 0 are not computed.

    The teachers are loaded in ``init_weights()``, which runs when training starts and not for
    testing; they are no part of the state dict, the optimiser, gradient buckets or averaged
    weights.

    Args:
        student: A network's name, ``dict(arch=name, ..)``, a backbone config, the config of a
            classifier of this package, or the path of a config file with one.
        teacher: The same, or any mmpretrain classifier, with ``checkpoint``:
            ``dict(arch='wrn40_2', checkpoint='wrn40_2.pth')``; or a list of several, whose logits
            are averaged. It gets the images as the student does, so it must have been trained with
            the same normalisation.
        num_classes: K.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
        ce_weight: Weight of the cross-entropy with the labels, >= 0.
        kd_weight: Weight of the divergence of the softened scores, >= 0.
        tau: Its temperature, > 0.
        verify_teacher: Let ``VerifyTeacherHook`` score the teachers on the validation set before
            training; one that guesses stops the run.
        **kwargs: ``data_preprocessor``, .. of :class:`Classifier`.

    Raises:
        ValueError: If a weight is out of range, the class counts differ, or a network cannot be
            student or teacher.
    """

    def __init__(
        self,
        student: str | dict,
        teacher: str | dict | Sequence[str | dict],
        num_classes: int,
        image_size: int | Sequence[int],
        ce_weight: float = 1.0,
        kd_weight: float = 0.0,
        tau: float = 4.0,
        verify_teacher: bool = True,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        if ce_weight < 0 or kd_weight < 0:
            raise ValueError(
                f'{name}: ce_weight={ce_weight} and kd_weight={kd_weight} must be >= 0.'
            )
        if not tau > 0:
            raise ValueError(f'{name}: tau={tau} must be positive.')
        teachers = [teacher] if isinstance(teacher, (str, dict)) else list(teacher)
        if not teachers:
            raise ValueError(f'{name}: teacher={teacher!r} must name at least one network.')
        spec = resolve_network(student)
        if spec.classifier:
            raise ValueError(
                f'{name}: student={spec.name!r} is a {spec.classifier["type"]}, expected a '
                'network, a backbone or a config of mmkdfuse.Classifier.'
            )
        if spec.checkpoint:
            raise ValueError(
                f'{name}: student.checkpoint={spec.checkpoint!r} is not read, a student starts '
                "from weights by `init_cfg=dict(type='Pretrained', checkpoint=.., "
                "prefix='backbone')` beside `arch`."
            )
        attach(self, [Teacher(each, num_classes, image_size) for each in teachers])
        super().__init__(spec.backbone, num_classes, image_size, head=spec.head, **kwargs)
        self.ce_weight, self.kd_weight, self.tau = ce_weight, kd_weight, tau
        self.verify_teacher = verify_teacher

    teachers: tuple[Teacher, ...]
    # What the method reads of its teachers; what it does not is neither computed nor kept.
    asks_logits = True
    asks_stages = slice(None)

    def terms(
        self, student: NetworkOutput, teachers: Sequence[NetworkOutput], targets: Tensor
    ) -> dict[str, Tensor]:
        """Return the method's own terms, weighted, each named ``loss_*``.

        Args:
            student: What :meth:`forward_student` gave.
            teachers: What ``asks_logits`` and ``asks_stages`` ask of every teacher, without
                gradients.
            targets: Labels (N,) or soft labels (N, K).
        """
        raise NotImplementedError

    def forward(
        self,
        inputs: Tensor,
        data_samples: Tensor | Sequence[DataSample] | None = None,
        mode: str = 'tensor',
        indices: Tensor | None = None,
    ):
        """Run student, and in ``mode='loss'`` teachers, as :meth:`Classifier.forward`."""
        if mode != 'loss' or data_samples is None:
            return super().forward(inputs, data_samples, mode, indices)
        teachers = [
            teacher(inputs, self.asks_logits, self.asks_stages) for teacher in self.teachers
        ]
        student = self.forward_student(inputs)
        targets = targets_of(data_samples)
        terms = {}
        if self.ce_weight:
            terms['loss_ce'] = self.ce_weight * cross_entropy(student.logits[-1], targets)
        if self.kd_weight:
            divergence = soft_kl(mean_logits(teachers), student.logits[-1], self.tau)
            terms['loss_kd'] = self.kd_weight * self.tau**2 * divergence
        return {**terms, **self.terms(student, teachers, targets)}

    def forward_student(self, inputs: Tensor) -> NetworkOutput:
        """Run what training needs of the student; default all of it."""
        return self.forward_network(inputs)

    def init_weights(self) -> None:
        """Initialise the student and load the teachers."""
        super().init_weights()
        for teacher in self.teachers:
            teacher.load()

    def check_teachers(self) -> None:
        """Raise if the weights that training goes on from do not belong to the teachers."""

    def _apply(self, fn, *args: Any, **kwargs: Any):
        for teacher in self.teachers:
            teacher._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)

    def describe(self) -> list[str]:
        """Return what the dry run found, one line a fact."""
        lines = super().describe()
        for teacher in self.teachers:
            shape = 'x'.join(map(str, teacher.stage_shapes[-1]))
            lines.append(f'teacher {teacher.name}: last map {shape}, from {teacher.checkpoint}')
        return lines
