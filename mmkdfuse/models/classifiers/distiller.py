"""A student that trains with frozen teachers."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmkdfuse.models.classifiers.classifier import Classifier
from mmkdfuse.models.classifiers.network import Export
from mmkdfuse.models.classifiers.single_backbone import build_preprocessor
from mmkdfuse.models.classifiers.trainable import Trainable
from mmkdfuse.models.heads.task_loss import TaskLoss
from mmkdfuse.models.losses.classification import is_task_loss, with_task_loss
from mmkdfuse.models.losses.kd import KDLoss
from mmkdfuse.models.losses.loss import Loss
from mmkdfuse.models.probe import as_size
from mmkdfuse.models.taps import ActivationTaps
from mmkdfuse.models.teachers.network_spec import NetworkSpec, resolve_network
from mmkdfuse.models.teachers.teacher import TeacherLike, build_teachers
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import MAIN, NetworkOutput, StageShape, TapKeys


@MODELS.register_module()
class Distiller(Trainable):
    """A student of any kind that trains with frozen teachers; the student is scored and ships.

    loss = ``ce_weight`` * task loss + ``kd_weight`` * tau^2 KL(teacher || student) + ``losses``. A
    student with losses of its own (KFMSD, ..) keeps them. Terms: ``loss_ce``, ``loss_kd`` and those
    of ``losses``.

    The student's parts are the distiller's own, so that its checkpoints have the keys of the same
    network trained alone. The teachers are loaded in ``init_weights()``, which runs when training
    starts and not for testing; they are no part of the state dict, the optimiser, gradient buckets
    or averaged weights.

    Args:
        student: A network's name, ``dict(arch=name, ..)``, a backbone config, or a built network.
            Or the config of a classifier, plain (ours or mmpretrain's ``ImageClassifier``) or
            branched, or the path of a config file with one.
        teacher: The same, with ``checkpoint``: ``dict(arch='wrn40_2', checkpoint='wrn40_2.pth')``;
            or several. It gets the images as the student does, so it must have been trained with
            the same normalisation. None: losses that need no teacher.
        num_classes: K.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
        losses: Further losses.
        ce_weight: Weight of the task loss, >= 0; a ``ClassificationLoss`` in ``losses`` takes its
            place, and a student with losses of its own has one already.
        kd_weight: Weight of the divergence of the softened probabilities, >= 0.
        tau: Its temperature, > 0; default 4.
        views: Config of a module that makes several views of every image in training.
        verify_teacher: Let ``VerifyTeacherHook`` score the teachers on the validation set before
            training; one that guesses stops the run.
        data_preprocessor: Config; the runner fills in the top-level one.
        train_cfg: Batch augmentations of mmpretrain's ``ClsDataPreprocessor``.
        init_cfg: Initialisation of mmengine.

    Raises:
        ValueError: If a weight is out of range, the class counts differ, or a network cannot be
            student or teacher.

    Example:
        >>> import torch
        >>> model = Distiller(
        ...     student=dict(arch='resnet8x4', base_channels=4),
        ...     teacher=dict(arch='resnet8x4', base_channels=8),
        ...     num_classes=10,
        ...     image_size=32,
        ...     losses=[dict(type='mmkdfuse.KDLoss', tau=2.0)],
        ... )
        >>> sorted(model(torch.zeros(2, 3, 32, 32), torch.tensor([0, 1]), mode='loss'))
        ['loss_ce', 'loss_kd']
    """

    def __init__(
        self,
        student: str | dict | Trainable,
        teacher: TeacherLike,
        num_classes: int,
        image_size: int | Sequence[int],
        losses: Sequence[dict | Loss] = (),
        ce_weight: float | None = None,
        kd_weight: float = 0.0,
        tau: float | None = None,
        views: dict | nn.Module | None = None,
        verify_teacher: bool = True,
        data_preprocessor: dict | nn.Module | None = None,
        train_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        name = type(self).__name__
        if (ce_weight or 0) < 0 or kd_weight < 0:
            raise ValueError(
                f'{name}: ce_weight={ce_weight} and kd_weight={kd_weight} must be >= 0.'
            )
        if tau is not None and not tau > 0:
            raise ValueError(f'{name}: tau={tau} must be positive.')
        if tau is not None and not kd_weight:
            raise ValueError(f'{name}: tau={tau} would be ignored with kd_weight={kd_weight}.')
        teachers = build_teachers(teacher, num_classes, image_size)
        network: Any = student
        if not isinstance(student, Trainable):
            network = build_student(student, num_classes, image_size, name)
        if network.init_cfg and init_cfg:
            raise ValueError(
                f"{name}: init_cfg={init_cfg} and the student's, {network.init_cfg}, expected one."
            )
        if views is not None and network.views is not None:
            raise ValueError(f"{name}: views={views} and the student's own, expected one of them.")
        super().__init__(
            data_preprocessor=build_preprocessor(data_preprocessor, train_cfg, num_classes),
            init_cfg=init_cfg or network.init_cfg,
        )
        if network.teachers:
            raise ValueError(
                f'{name}: the student, a {type(network).__name__}, has a teacher of its own, '
                f'expected all teachers in `teacher` of {name}.'
            )
        plain = type(network) is Classifier and not network.has_own_losses
        own = [] if plain else network._connected
        if ce_weight is not None and any(map(is_task_loss, losses)):
            raise ValueError(
                f'{name}: ce_weight={ce_weight} would be ignored beside the ClassificationLoss in '
                '`losses`, expected ce_weight=None.'
            )
        if own and ce_weight is not None:
            raise ValueError(
                f'{name}: ce_weight={ce_weight} would be ignored, because the student, a '
                f'{type(network).__name__}, has a task loss of its own, expected ce_weight=None.'
            )
        object.__setattr__(self, 'student', network)
        for child, module in network.named_children():
            if child not in ('data_preprocessor', 'losses'):
                self.add_module(child, module)
        self.num_classes, self.image_size = num_classes, image_size
        self.verify_teacher = verify_teacher
        self.ce_weight, self.kd_weight = ce_weight, kd_weight
        further = [KDLoss(kd_weight, 4.0 if tau is None else tau), *losses]
        if not own:
            weight = 1.0 if ce_weight is None else ce_weight
            further = with_task_loss(further, weight, name='loss_ce')
        self.assemble(further, teachers, network.views if views is None else views, own)

    student: Any

    @property
    def stage_shapes(self) -> list[StageShape]:  # type: ignore[override]
        """(C, H, W) of every stage of the student for images of ``image_size``."""
        return self.student.stage_shapes

    @property
    def head_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the student's heads, the main one last."""
        return self.student.head_names

    @property
    def has_one_backbone(self) -> bool:  # type: ignore[override]
        """Whether the student has."""
        return self.student.has_one_backbone

    @property
    def reuses_teachers(self) -> bool:  # type: ignore[override]
        """Whether the student has the teachers' classifiers."""
        return self.student.reuses_teachers

    @property
    def activations(self) -> ActivationTaps:
        """Maps of the student before and after its activations."""
        return self.student.activations

    @property
    def task_loss(self) -> TaskLoss:
        """The student's loss with the labels."""
        return self.student.task_loss

    @property
    def main_head(self) -> nn.Module:
        """The student's main classifier."""
        return self.student.main_head

    def run(self, images: Tensor, taps: TapKeys) -> NetworkOutput:
        """Run the student once on (N, 3, H, W) images, as far as it is read."""
        return self.student.run(images, taps)

    def read(self, maps: Sequence[Tensor], taps: TapKeys) -> NetworkOutput:
        """Compute the tensors that are read from the student's stage maps."""
        return self.student.read(maps, taps)

    def listen(self, taps: TapKeys) -> None:
        """Prepare the student for these taps."""
        self.student.listen(taps)

    def scores(self, output: NetworkOutput):
        """Return the student's result of ``mode='tensor'``."""
        return self.student.scores(output)

    def predictions(
        self, output: NetworkOutput, data_samples: Tensor | Sequence[DataSample] | None
    ) -> list[DataSample]:
        """Return the student's predictions."""
        return self.student.predictions(output, data_samples)

    def extract_feat(self, inputs: Tensor):
        """Return the pooled feature of the student's main head, in a tuple."""
        return (self.run(inputs, TapKeys(features=(MAIN,))).feature,)

    def train(self, mode: bool = True) -> Distiller:
        """Set the mode of the student, whose frozen parts stay in eval mode."""
        super().train(mode)
        # Not of its parts alone: some networks keep some of them in eval mode.
        if 'student' in vars(self):
            self.student.train(mode)
        return self

    def heads(self) -> tuple[str, ...]:
        """Names of the student's heads that can be deployed."""
        return self.student.heads()

    def deployed(self) -> Any:
        """Return the student's main head as the plain mmpretrain classifier that ships."""
        return self.student.deployed()

    def export(self, head: str = MAIN) -> Export:
        """Return a head of the student as a plain classifier."""
        return self.student.export(head)

    def exits(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return path and classifier of every branch of the student."""
        return self.student.exits()

    def costs_beside(self, head: str) -> dict[str, nn.Module]:
        """Return the teachers and the other networks that the student is compared with."""
        several = len(self.teachers) > 1
        names = [f'teacher {each.name}' if several else 'teacher' for each in self.teachers]
        networks = {
            name: teacher.deployed() for name, teacher in zip(names, self.teachers, strict=True)
        }
        if type(self.student) is not Classifier:
            networks |= self.student.costs_beside(head)
        return networks

    def describe_network(self) -> list[str]:
        """Return the facts about the student, one line each."""
        return self.student.describe_network()


# Options of a network that the model which trains it has in its place.
_OWN = ('data_preprocessor', 'train_cfg', 'verify_teacher')


def build_student(
    student: str | dict, num_classes: int, image_size: int | Sequence[int], owner: str
) -> Trainable:
    """Build the network that a config names as student.

    Args:
        student: As for :class:`Distiller`.
        num_classes: K; a config of a whole classifier may leave it out.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
        owner: Name of the model that builds it, for errors.

    Raises:
        ValueError: If it is no network of this package, or names a checkpoint.
    """
    spec = student_spec(student, num_classes, image_size, owner)
    if spec.is_plain and not spec.others:
        return Classifier(spec.backbone, num_classes, image_size, spec.neck, spec.head)
    config = {'type': 'mmkdfuse.Classifier', **(spec.classifier or {})}
    config.update(num_classes=num_classes, image_size=image_size)
    kind = MODELS.get(config['type'])
    if not (inspect.isclass(kind) and issubclass(kind, Trainable)):
        raise ValueError(
            f'{owner}: student={spec.name!r} is a {spec.type}'
            + (f' with {", ".join(spec.others)}' if spec.others else '')
            + ", expected a network, a backbone, or the config of a classifier: mmkdfuse's, or "
            'mmpretrain.ImageClassifier with backbone, neck and head alone.'
        )
    return MODELS.build(config)


def student_spec(
    student: str | dict, num_classes: int, image_size: int | Sequence[int], owner: str
) -> NetworkSpec:
    """Resolve how a student is named; the arguments are those of :func:`build_student`.

    Raises:
        ValueError: If it names a checkpoint, or something that the model which trains it says.
    """
    spec = resolve_network(student)
    config: dict = dict(spec.classifier or {})
    for option in _OWN:
        if config.get(option) is not None:
            raise ValueError(
                f'{owner}: student.{option}={config[option]!r} would be ignored, expected it as '
                f'`{option}` of {owner}.'
            )
    if spec.num_classes not in (None, num_classes):
        raise ValueError(
            f'{owner}: student.num_classes={spec.num_classes} would be ignored, expected '
            f'num_classes={num_classes} or nothing.'
        )
    if as_size(config.get('image_size', image_size)) != as_size(image_size):
        raise ValueError(
            f'{owner}: student.image_size={config["image_size"]} would be ignored, expected '
            f'image_size={image_size} or nothing.'
        )
    if spec.checkpoint:
        raise ValueError(
            f'{owner}: student.checkpoint={spec.checkpoint!r} is not read, a student starts from '
            "weights by `init_cfg=dict(type='Pretrained', checkpoint=.., prefix='backbone')` "
            'beside `arch`.'
        )
    return spec
