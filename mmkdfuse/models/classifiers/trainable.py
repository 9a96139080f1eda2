"""The seam where networks, teachers and losses meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.model import ModuleDict
from mmpretrain.models.classifiers.base import BaseClassifier
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmkdfuse.models.classifiers.network import Network
from mmkdfuse.models.classifiers.predictions import make_predictions, targets_of
from mmkdfuse.models.losses.loss import Loss
from mmkdfuse.models.teachers.teacher import Teacher, attach
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import NetworkInfo, NetworkOutput, Step, TapKeys, Taps, TrainingSet


@dataclass
class _Connected:
    """A loss with its taps, every stage and head named in full."""

    loss: Loss
    name: str
    indices: bool
    student: TapKeys
    teachers: tuple[TapKeys, ...]


class Trainable(Network, BaseClassifier):
    """Base class of all our models: a network that losses train, with or without teachers.

    A subclass builds its parts in its constructor and ends with :meth:`assemble`. One forward pass
    serves training, validation and export.

    Attributes:
        teachers: Frozen networks, which are no modules of the model.
        losses: Losses that train it, by name.
        views: Module that makes several views of an image in training, or None.
        reads_student: Taps of all losses on the student together.

    Example:
        >>> from mmkdfuse.models import KFMSD
        >>> model = KFMSD(dict(arch='resnet18', base_channels=4), num_classes=10, image_size=32)
        >>> isinstance(model, Trainable)
        True
        >>> model.reads_student.logits
        ('branch1', 'branch2', 'branch3', 'main')
    """

    teachers: tuple[Teacher, ...] = ()
    losses: ModuleDict
    reads_student: TapKeys
    views: nn.Module | None
    verify_teacher: bool = True
    # Beginnings of names in checkpoints of older versions, and what they are now.
    moved_weights: Mapping[str, str] = {}

    def assemble(
        self,
        losses: Sequence[Loss | dict],
        teachers: Sequence[Teacher] = (),
        views: nn.Module | dict | None = None,
        connected: Sequence[_Connected] = (),
    ) -> None:
        """Connect losses with network and teachers; the last step of a constructor.

        Args:
            losses: Modules or configs; those of weight 0 are left out.
            teachers: Networks that teach.
            views: Module or config; maps images (N, C, H, W) to (V * N, C, H, W), the images
                themselves first.
            connected: Losses that a network, which is a student now, trained by; they read no
                teacher.

        Raises:
            ValueError: If a loss does not fit the networks, or no loss reads a teacher.
        """
        attach(self, teachers)
        self.views = MODELS.build(views) if isinstance(views, dict) else views
        built = [MODELS.build(loss) if isinstance(loss, dict) else loss for loss in losses]
        self.losses = ModuleDict()
        self._connected: list[_Connected] = []
        student = self.info()
        facts = [teacher.info() for teacher in teachers]
        for each in connected:
            self._connected.append(replace(each, teachers=(TapKeys(),) * len(teachers)))
            self.losses[self._free_name(each.name)] = each.loss
        for loss in built:
            if not isinstance(loss, Loss):
                raise ValueError(
                    f'losses: {type(loss).__name__} is no loss of this package, expected a '
                    'subclass of mmkdfuse.models.Loss such as KDLoss.'
                )
            if loss.weight == 0 and not getattr(loss, 'head_weights', None):
                continue
            found = self._connect(loss, student, facts)
            loss.connect(student, facts)
            if loss.init_cfg and not any(True for _ in loss.parameters()):
                raise ValueError(
                    f'{type(loss).__name__}: init_cfg={loss.init_cfg} has nothing to initialise, '
                    'because this loss has no weights; leave it out.'
                )
            self._connected.append(found)
            self.losses[self._free_name(type(loss).__name__)] = loss
        self.reads_student = _union([connected.student for connected in self._connected])
        self.listen(self.reads_student)
        for number, teacher in enumerate(teachers):
            keys = [connected.teachers[number] for connected in self._connected]
            read = _union(keys)
            if not read and not self.reuses_teachers:
                raise ValueError(
                    f'teacher={teacher.name!r} is read by no loss: leave it out, or add a loss '
                    "such as dict(type='KDLoss') to `losses`."
                )
            teacher.listen(read)
        if self.moved_weights:
            self.register_load_state_dict_pre_hook(_rename_moved)
        if getattr(self.data_preprocessor, 'channels_last', False):
            # Weights laid out as the images are, so that no convolution converts one of them.
            self.to(memory_format=torch.channels_last)

    @staticmethod
    def _connect(loss: Loss, student: NetworkInfo, teachers: Sequence[NetworkInfo]) -> _Connected:
        name, reads = type(loss).__name__, loss.reads
        if reads.teacher != Taps() and not teachers:
            raise ValueError(
                f'{name}: teacher=None, expected at least one teacher, which this loss reads.'
            )
        for teacher in teachers:
            maps = (reads.teacher.stages, reads.teacher.before_activation)
            if teacher.logits_alone and any((*maps, reads.teacher.after_activation)):
                raise ValueError(
                    f'{name}: teacher={teacher.name!r} gives logits alone, and this loss reads its '
                    f'maps; {teacher.logits_alone}.'
                )
        own, *others = (
            taps.resolved(len(info.stage_shapes), info.heads, name)
            for taps, info in [
                (reads.student, student),
                *((reads.teacher, teacher) for teacher in teachers),
            ]
        )
        return _Connected(loss, name, reads.indices, own, tuple(others))

    def _free_name(self, name: str) -> str:
        taken = sum(each.rstrip('0123456789') == name for each in self.losses)
        return f'{name}{taken + 1}' if taken else name

    @property
    def all_logits(self) -> TapKeys:
        """Taps of the logits of every head."""
        return TapKeys(logits=self.head_names)

    def forward(
        self,
        inputs: Tensor,
        data_samples: Tensor | Sequence[DataSample] | None = None,
        mode: str = 'tensor',
        indices: Tensor | None = None,
    ):
        """Run the network in one of mmengine's modes.

        Args:
            inputs: Normalised images, (N, 3, H, W).
            data_samples: Labels (N,) int64, or one sample per image; needed in ``mode='loss'``.
            mode: ``'tensor'`` returns logits, ``'loss'`` a dict of scalar terms, ``'predict'`` a
                list of ``DataSample`` with ``pred_score`` and ``pred_label``.
            indices: Dataset indices (N,) int64, for losses that keep a memory per image.
        """
        if mode == 'tensor':
            return self.scores(self.run(inputs, self.all_logits))
        if mode == 'loss':
            if data_samples is None:
                raise ValueError("data_samples=None: mode='loss' needs labels.")
            return self.terms_of(self.step(inputs, targets_of(data_samples), indices))
        if mode == 'predict':
            return self.predictions(self.run(inputs, self.all_logits), data_samples)
        raise ValueError(f"mode={mode!r} must be 'tensor', 'loss' or 'predict'.")

    def step(self, images: Tensor, targets: Tensor | None, indices: Tensor | None = None) -> Step:
        """Run teachers and network, as far as losses read them, on normalised images."""
        views = images if self.views is None else self.views(images)
        teachers = tuple(teacher(views) for teacher in self.teachers)
        student = self.run(views, self.reads_student)
        return Step(
            images=views,
            targets=targets,
            indices=indices,
            epoch=self._epoch,
            max_epochs=self._max_epochs,
            student=student,
            teachers=teachers,
            num_views=len(views) // len(images),
        )

    def terms_of(self, step: Step) -> dict[str, Tensor]:
        """Return the terms of all losses of one step."""
        terms: dict[str, Tensor] = {}
        for connected in self._connected:
            if connected.indices and step.indices is None:
                raise ValueError(
                    f'{connected.name} reads the dataset indices of the images, and the data give '
                    'none: use a dataset in memory of this package with BatchPreprocessor.'
                )
            seen = step.seen_by(connected.student, connected.teachers, connected.name)
            for name, term in connected.loss.terms(seen).items():
                free, number = name, 2
                while free in terms:
                    free, number = f'{name}_{number}', number + 1
                terms[free] = term
        return terms

    _epoch = 0
    _max_epochs = 0

    def set_progress(self, epoch: int, max_epochs: int) -> None:
        """Tell the losses the epoch, from 0, and how many there are; the engine calls it."""
        self._epoch, self._max_epochs = epoch, max_epochs

    @property
    def needs_dataset(self) -> bool:
        """Whether a loss reads the training set before the first step."""
        return any(connected.loss.reads.dataset for connected in self._connected)

    def see_dataset(self, dataset: TrainingSet) -> None:
        """Show the training set to the losses that read it; the engine calls it."""
        for connected in self._connected:
            if connected.loss.reads.dataset:
                connected.loss.see_dataset(dataset)
                connected.loss.to(next(self.parameters()).device)

    @property
    def needs_observation(self) -> bool:
        """Whether a loss has yet to observe the teachers' outputs on the training set."""
        return any(connected.loss.needs_observation for connected in self._connected)

    @torch.no_grad()
    def observe(self, images: Tensor) -> None:
        """Show the losses the teachers' outputs on some training images, before the first step."""
        outputs = [teacher(images) for teacher in self.teachers]
        for connected in self._connected:
            if connected.loss.needs_observation:
                pairs = zip(outputs, connected.teachers, strict=True)
                connected.loss.observe([out.seen_by(t, connected.name) for out, t in pairs])

    def conclude(self) -> None:
        """End the observation; all processes call it."""
        for connected in self._connected:
            connected.loss.conclude()

    def diagnose(self, step: Step) -> dict[str, Tensor]:
        """Return the reports of the losses on a step, beside their terms."""
        found: dict[str, Tensor] = {}
        for connected in self._connected:
            seen = step.seen_by(connected.student, connected.teachers, connected.name)
            found.update(connected.loss.diagnose(seen))
        return found

    def memories(self) -> dict[str, Tensor]:
        """Tensors of losses that belong to this process alone, by name."""
        return {
            f'{name}.{key}': tensor
            for name, loss in self.losses.items()
            for key, tensor in loss.memories.items()
        }

    def load_memories(self, memories: Mapping[str, Tensor]) -> None:
        """Restore memories that :meth:`memories` returned.

        Raises:
            RuntimeError: If one is missing, unexpected or of another shape.
        """
        own = self.memories()
        shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
        given = {name: tuple(tensor.shape) for name, tensor in memories.items()}
        if shapes != given:
            raise RuntimeError(
                f'the memories of the checkpoint, {given}, do not fit those of the losses, '
                f'{shapes}: resume with the losses and the training set of the checkpoint'
            )
        for name, tensor in memories.items():
            own[name].copy_(tensor)

    def loss(self, inputs: Tensor, data_samples: Tensor | Sequence[DataSample]) -> dict:
        """Terms of the loss; see :meth:`forward`."""
        return self(inputs, data_samples, mode='loss')

    def predict(self, inputs: Tensor, data_samples: Sequence[DataSample] | None = None, **kwargs):
        """Predictions; see :meth:`forward`."""
        return self(inputs, data_samples, mode='predict')

    def scores(self, output: NetworkOutput):
        """Return the result of ``mode='tensor'``."""
        return output.logits

    def predictions(
        self, output: NetworkOutput, data_samples: Tensor | Sequence[DataSample] | None
    ) -> list[DataSample]:
        """Return the result of ``mode='predict'``."""
        return make_predictions(output.logits, data_samples)

    def init_weights(self) -> None:
        """Initialise the network and load the teachers."""
        super().init_weights()
        for teacher in self.teachers:
            teacher.load()

    def check_teachers(self) -> None:
        """Raise if the weights that training goes on from do not belong to the teachers."""

    def _apply(self, fn, *args: Any, **kwargs: Any):
        for teacher in self.teachers:
            teacher._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)

    def describe_network(self) -> list[str]:
        """Return the facts about the network, one line each."""
        shapes = ', '.join('x'.join(map(str, shape)) for shape in self.stage_shapes)
        return [f'stage shapes (C x H x W): {shapes}']

    def describe(self) -> list[str]:
        """Return the facts about network and teachers, one line each."""
        return [*self.describe_network(), *(teacher.describe() for teacher in self.teachers)]


def _rename_moved(module: Any, state: dict, prefix: str, *_: Any) -> None:
    """Rename weights of a checkpoint that an older version wrote."""
    for old, new in module.moved_weights.items():
        for name in [name for name in state if name.startswith(prefix + old)]:
            state[prefix + new + name.removeprefix(prefix + old)] = state.pop(name)


def _union(keys: Sequence[TapKeys]) -> TapKeys:
    found = TapKeys()
    for each in keys:
        found |= each
    return found
