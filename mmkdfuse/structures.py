"""Data that pass between networks, teachers and losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from torch import Tensor, nn

StageShape: TypeAlias = tuple[int, int, int]
# A stage by number from 1, by number from the end (-1 is the last), or by name: 'stage2'.
StageName: TypeAlias = int | str
Names: TypeAlias = str | int | Sequence[str | int]

MAIN = 'main'
ALL = 'all'
BRANCHES = 'branches'
LAST_BRANCH = 'last_branch'
# Maps of a stage: as the network hands it on, and around the activation that it ends in.
AS_IS, BEFORE, AFTER = '', '.before_activation', '.after_activation'


@dataclass(frozen=True)
class TapKeys:
    """Taps of one network with every stage and head named in full.

    Attributes:
        maps: Keys of maps: ``'stage2'``, ``'stage2.before_activation'``, ``'aligned1'``, ..
        features: Heads whose pooled features are read.
        logits: Heads whose logits are read.
    """

    maps: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    logits: tuple[str, ...] = ()

    def __or__(self, other: TapKeys) -> TapKeys:
        """Return the taps of two readers together."""
        return TapKeys(
            tuple(dict.fromkeys(self.maps + other.maps)),
            tuple(dict.fromkeys(self.features + other.features)),
            tuple(dict.fromkeys(self.logits + other.logits)),
        )

    def __bool__(self) -> bool:
        return bool(self.maps or self.features or self.logits)


@dataclass(frozen=True)
class Taps:
    """Tensors that are read of one network's forward pass.

    Stages are named by number from 1, by number from the end (-1 is the last), or ``'stage2'``;
    heads ``'main'``, ``'branch1'``, .., ``'last_branch'``. ``'all'`` stands for all of them, and
    ``'branches'`` for all heads but the main one. Every field takes one name or several.

    Attributes:
        stages: Maps of stages as the network hands them on.
        before_activation: Maps of stages before the activation that they end in. Where a stage ends
            in a sum that the next block normalises (pre-activation networks): behind that norm.
        after_activation: The same behind the activation.
        features: Heads whose pooled features are read.
        logits: Heads whose logits are read.
        maps: Names of further maps of this kind of network, such as ``'aligned1'``.

    Example:
        >>> Taps(stages=(1, -1), logits='main').resolved(4, ('branch1', 'main'), 'MyLoss')
        TapKeys(maps=('stage1', 'stage4'), features=(), logits=('main',))
    """

    stages: Names = ()
    before_activation: Names = ()
    after_activation: Names = ()
    features: Names = ()
    logits: Names = ()
    maps: Names = ()

    def resolved(self, num_stages: int, heads: Sequence[str], reader: str) -> TapKeys:
        """Return the taps with every stage and head named in full.

        Args:
            num_stages: Number of stages of the network.
            heads: Names of its heads, the main one last.
            reader: Name of the reader, for the error.

        Raises:
            ValueError: If the network has no such stage or head.
        """
        maps = [
            stage_key(stage_number(each, num_stages, reader), at)
            for names, at in (
                (self.stages, AS_IS),
                (self.before_activation, BEFORE),
                (self.after_activation, AFTER),
            )
            for each in _listed(names, range(1, num_stages + 1))
        ]
        found = {
            kind: tuple(
                head_named(str(each), heads, reader)
                for each in _listed(getattr(self, kind), heads, heads[:-1])
            )
            for kind in ('features', 'logits')
        }
        return TapKeys((*maps, *map(str, _listed(self.maps, ()))), **found)


def _listed(
    names: Names, everything: Sequence[str | int], branches: Sequence[str | int] = ()
) -> tuple[str | int, ...]:
    if names == ALL:
        return tuple(everything)
    if names == BRANCHES and branches:
        return tuple(branches)
    return (names,) if isinstance(names, (str, int)) else tuple(names)


def head_named(head: str, heads: Sequence[str], reader: str) -> str:
    """Return the name of a head; ``'last_branch'`` is the one before the main head.

    Raises:
        ValueError: If there is no such head.
    """
    if head == LAST_BRANCH and len(heads) > 1:
        return heads[-2]
    if head not in heads:
        raise ValueError(
            f'{reader}: {head!r} is no head of this network, expected one of {tuple(heads)}.'
        )
    return head


def stage_key(stage: StageName, at: str) -> str:
    """Key of a stage's map: ``'stage2'``, ``'stage2.before_activation'``, .."""
    return f'stage{stage}{at}'


def stage_number(stage: StageName, num_stages: int, reader: str) -> int:
    """Return the number from 1 of a stage that is named by number, number from the end, or name.

    Raises:
        ValueError: If there is no such stage.
    """
    number = stage
    if isinstance(stage, str):
        digits = stage.removeprefix('stage')
        number = int(digits) if digits.isdecimal() else 0
    if isinstance(number, int) and number < 0:
        number += num_stages + 1
    if not isinstance(number, int) or not 1 <= number <= num_stages:
        raise ValueError(
            f'{reader}: stage={stage!r} must be from 1 to {num_stages}, the stages of this network,'
            f" or from -1, its last, to -{num_stages}, or a name such as 'stage1'."
        )
    return number


@dataclass(frozen=True)
class Reads:
    """Inputs of a loss, fixed in its constructor.

    Attributes:
        student: Taps of the student.
        teacher: Taps of every teacher.
        targets: Whether it needs labels.
        indices: Whether it needs the dataset indices of the images.
        dataset: Whether it needs size and labels of the training set before the first step.

    Example:
        >>> Reads(student=Taps(logits='main'), teacher=Taps(logits='main')).targets
        False
    """

    student: Taps = Taps()
    teacher: Taps = Taps()
    targets: bool = False
    indices: bool = False
    dataset: bool = False


@dataclass(frozen=True)
class NetworkOutput:
    """Tensors of one forward pass of a network, as far as they are read.

    Access to anything else is an error.

    Attributes:
        num_stages: Number of the network's stages.
        maps: Maps (N, C, H, W) by key, such as ``'stage2'`` or ``'aligned1'``.
        head_features: Pooled feature (N, D) of every head that is read, the main one last.
        head_logits: Class scores (N, K) of every head that is read, the main one last.
        reader: Name of the reader, for errors.

    Example:
        >>> import torch
        >>> output = NetworkOutput(4, dict(stage4=torch.ones(2, 8, 1, 1)), {}, {}, 'MyLoss')
        >>> output.stage(-1).shape
        torch.Size([2, 8, 1, 1])
    """

    num_stages: int
    maps: Mapping[str, Tensor]
    head_features: Mapping[str, Tensor]
    head_logits: Mapping[str, Tensor]
    reader: str = 'this part'

    def stage(self, stage: StageName) -> Tensor:
        """Map of a stage as the network hands it on, (N, C, H, W)."""
        return self.map(self._key(stage, AS_IS))

    def before_activation(self, stage: StageName) -> Tensor:
        """Map of a stage before its activation, (N, C, H, W)."""
        return self.map(self._key(stage, BEFORE))

    def after_activation(self, stage: StageName) -> Tensor:
        """Map of a stage behind its activation, (N, C, H, W)."""
        return self.map(self._key(stage, AFTER))

    def map(self, key: str) -> Tensor:
        """Map by key."""
        if key not in self.maps:
            raise self._unread('map', key, self.maps)
        return self.maps[key]

    @property
    def stages(self) -> tuple[Tensor, ...]:
        """Maps of the stages that are read, shallow to deep."""
        keys = (stage_key(number, AS_IS) for number in range(1, self.num_stages + 1))
        return tuple(self.maps[key] for key in keys if key in self.maps)

    @property
    def logits(self) -> Tensor:
        """Class scores of the main head, (N, K)."""
        return self.logits_of(MAIN)

    @property
    def feature(self) -> Tensor:
        """Pooled feature of the main head, (N, D)."""
        return self.feature_of(MAIN)

    def logits_of(self, head: str) -> Tensor:
        """Class scores of a head, (N, K)."""
        if head not in self.head_logits:
            raise self._unread('logits of head', head, self.head_logits)
        return self.head_logits[head]

    def feature_of(self, head: str) -> Tensor:
        """Pooled feature of a head, (N, D)."""
        if head not in self.head_features:
            raise self._unread('feature of head', head, self.head_features)
        return self.head_features[head]

    def seen_by(self, taps: TapKeys, reader: str) -> NetworkOutput:
        """Return the part that a reader's taps name."""
        return NetworkOutput(
            self.num_stages,
            {key: self.maps[key] for key in taps.maps},
            {head: self.head_features[head] for head in taps.features},
            {head: self.head_logits[head] for head in taps.logits},
            reader,
        )

    def _key(self, stage: StageName, at: str) -> str:
        return stage_key(stage_number(stage, self.num_stages, self.reader), at)

    def _unread(self, what: str, name: str, there: Mapping[str, Tensor]) -> RuntimeError:
        return RuntimeError(
            f'{self.reader} reads the {what} {name!r}, which its `reads` do not ask for; they ask '
            f'for {", ".join(there) or "none"}.'
        )


@dataclass(frozen=True)
class Step:
    """Input of a loss in one training step.

    Attributes:
        images: Normalised images, (V * N, C, H, W): V views of N images, the images themselves
            first; V is 1 unless the method makes views.
        targets: Labels (N,) int64, soft labels (N, K), or None where there are none.
        indices: Dataset indices (N,) int64, or None where the dataset has none.
        epoch: Epoch of training, from 0.
        max_epochs: Number of epochs, or 0 where it is unknown.
        student: Output of the student on ``images``.
        teachers: Output of every teacher on ``images``, without gradients.
        num_views: V.

    Example:
        >>> import torch
        >>> output = NetworkOutput(1, {}, {}, dict(main=torch.zeros(2, 3)))
        >>> step = Step(torch.zeros(2, 3, 8, 8), torch.tensor([0, 2]), None, 0, 10, output, ())
        >>> step.student.logits.shape, step.num_views
        (torch.Size([2, 3]), 1)
    """

    images: Tensor
    targets: Tensor | None
    indices: Tensor | None
    epoch: int
    max_epochs: int
    student: NetworkOutput
    teachers: tuple[NetworkOutput, ...]

    num_views: int = 1

    def seen_by(self, student: TapKeys, teachers: Sequence[TapKeys], reader: str) -> Step:
        """Return the step with the tensors that a reader's taps name."""
        pairs = zip(self.teachers, teachers, strict=True)
        return Step(
            self.images,
            self.targets,
            self.indices,
            self.epoch,
            self.max_epochs,
            self.student.seen_by(student, reader),
            tuple(output.seen_by(taps, reader) for output, taps in pairs),
            self.num_views,
        )


@dataclass(frozen=True)
class TrainingSet:
    """Facts about the training set that a loss may use before the first step.

    Attributes:
        size: Number of rows of a memory with one row an index: all indices are smaller.
        labels: Label of every index, (size,) int64, -1 where there is none; None where the dataset
            does not tell.
        num_classes: K.
    """

    size: int
    labels: Tensor | None
    num_classes: int


class TaskLoss(Protocol):
    """Loss of a head's logits (N, K) with targets, as the head's own config says."""

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over the batch."""

    def apart(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the same and leave no trace in a loss that counts labels."""

    def accuracies(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return what is logged beside it, by name."""


@dataclass(frozen=True)
class NetworkInfo:
    """Measured facts about a network, for parts that are built on it.

    Attributes:
        name: For messages.
        num_classes: K.
        image_size: (H, W) of the images of the measurement.
        stage_shapes: (C, H, W) of every stage.
        heads: Names of the heads, the main one last.
        shapes: (C, H, W) of every map by key; (D,) of features by ``'feature.HEAD'``, (K,) of
            logits by ``'logits.HEAD'``.
        norms: For every stage whose activation follows a batch norm, by number: that batch norm.
        task_loss: Loss of the network's own head: (logits (N, K), targets) -> scalar; its
            ``accuracies`` gives what is logged beside it.
        logits_alone: Why nothing but logits can be read, a sentence without its full stop; empty
            where maps can be.
        classify: The main head: feature (N, D) -> logits (N, K); gradients pass.
    """

    name: str
    num_classes: int
    image_size: tuple[int, int]
    stage_shapes: tuple[StageShape, ...]
    heads: tuple[str, ...]
    shapes: Callable[[str], tuple[int, ...]]
    norms: Callable[[int], nn.Module | None]
    task_loss: TaskLoss
    classify: Callable[[Tensor], Tensor]
    logits_alone: str = ''
