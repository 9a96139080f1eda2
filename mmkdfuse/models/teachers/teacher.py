"""Frozen teachers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmkdfuse.checkpoint import load_strictly
from mmkdfuse.checkpoint_reader import TEACHER
from mmkdfuse.models.classifiers.network import Network
from mmkdfuse.models.file_weights import read_weights_for
from mmkdfuse.models.inference.truncated_backbone import truncate
from mmkdfuse.models.probe import relative_difference, trial_images
from mmkdfuse.models.taps import ActivationTaps
from mmkdfuse.models.teachers.fast_copy import fast_copy
from mmkdfuse.models.teachers.foreign_network import read_foreign
from mmkdfuse.models.teachers.network_spec import resolve_network
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import (
    AFTER,
    ALL,
    BEFORE,
    MAIN,
    NetworkInfo,
    NetworkOutput,
    TapKeys,
    Taps,
)


class Teacher(nn.Module):
    """Frozen teacher: always in eval mode, without gradients, and no part of the student's model.

    It stands outside the model's modules (:func:`attach`), so that no optimiser, checkpoint,
    average of weights or gradient bucket sees it. Copies of the model share it.

    It runs no further than its deepest tap (:meth:`listen`): where stage maps alone are read, the
    layers behind the last of them are left out. Once its weights are loaded, a cheaper copy of its
    backbone may run in its place (:meth:`speed_up`); the network itself stays as it was trained.

    Args:
        network: As for :func:`resolve_network`; networks with branches teach by all heads that are
            read. What a config says of training (preprocessor, losses, initialisation) is not
            used.
        num_classes: K of a network that is named without its class count.
        image_size: Side length or (height, width) of the dry run's image, in pixels.

    Attributes:
        network: The classifier as it was trained.
        name: For messages.
        checkpoint: File with its weights.
        image_size: As given.

    Raises:
        ValueError: If it gives no logits.

    Example:
        >>> teacher = Teacher(dict(arch='resnet8x4', base_channels=4), 10, 32)
        >>> teacher.listen(TapKeys(maps=('stage1',)))
        >>> list(teacher(torch.zeros(1, 3, 32, 32)).maps)
        ['stage1']
    """

    _reader: Network

    def __init__(
        self, network: str | dict, num_classes: int, image_size: int | Sequence[int]
    ) -> None:
        super().__init__()
        spec = resolve_network(network)
        self.name, self.checkpoint = spec.name, spec.checkpoint
        self.image_size = image_size
        config: dict = dict(spec.classifier or dict(backbone=spec.backbone))
        if spec.type == 'Classifier':
            config.update(
                type='mmkdfuse.Classifier',
                num_classes=spec.num_classes or num_classes,
                image_size=image_size,
            )
        elif _is_ours(config['type']):
            config = {'num_classes': num_classes, 'image_size': image_size, **config}
        self.network = MODELS.build(config)
        reader: Any = self.network
        if not isinstance(reader, Network):
            reader = read_foreign(reader, spec.classifier or {}, image_size)
        object.__setattr__(self, '_reader', reader)  # not as a module: the network is one already
        self.requires_grad_(False)
        self.eval()
        self._fast: list[nn.Module] = []  # in a list, to be no module of this one
        self._truncated: list[nn.Module] = []  # shares the network's weights
        self._stages = len(self.stage_shapes)
        everything = Taps(stages=ALL, features=ALL if self._stages else (), logits=ALL)
        self._taps = everything.resolved(self._stages, self._reader.head_names, self.name)

    @property
    def stage_shapes(self) -> list[tuple[int, int, int]]:
        """(C, H, W) of its stage maps for images of ``image_size``."""
        return self._reader.stage_shapes

    @property
    def head_names(self) -> tuple[str, ...]:
        """Names of its heads, the main one last."""
        return self._reader.head_names

    def info(self) -> NetworkInfo:
        """Return measured facts about the network."""
        return self._reader.info(self.name)

    def main_parts(self) -> tuple[nn.Module | None, nn.Module]:
        """Return neck and classifier, the modules between its last map and its logits.

        Raises:
            ValueError: If its logits do not follow from its last map alone.
        """
        reason = self.info().logits_alone
        if reason:
            raise ValueError(f'teacher={self.name!r}: {reason}.')
        self._check_main_parts()
        plain = self._reader.deployed()
        return (plain.neck if plain.with_neck else None), plain.head

    def check_class_count(self, num_classes: int) -> None:
        """Raise if it has other classes than a student."""
        found = self.info().num_classes
        if found != num_classes:
            raise ValueError(
                f'teacher={self.name!r} has {found} classes, expected those of the student, '
                f'num_classes={num_classes}.'
            )

    def deployed(self) -> nn.Module:
        """Return its main head as a plain classifier that shares the weights."""
        return self._reader.deployed()

    def export_main(self) -> dict[str, Any]:
        """Config of the plain classifier of its main head."""
        return self._reader.export(MAIN).config

    @torch.no_grad()
    def _check_main_parts(self) -> None:
        image = trial_images(1, self.image_size, self.network)
        plain = self._reader.deployed()
        maps = tuple(self._reader.backbone(image))[-1:]
        self._check_logits(image, plain.head(tuple(plain.neck(maps)) if plain.with_neck else maps))

    def _check_logits(self, image: Tensor, found: Tensor) -> None:
        logits = self.network(image)
        expected = logits[-1] if isinstance(logits, tuple) else logits
        if not relative_difference(found, expected) <= 1e-4:
            raise ValueError(
                f'teacher={self.name!r}: its classifier does not give its logits from its last '
                'map alone, expected a network that pools its last map and classifies it.'
            )

    def train(self, mode: bool = True) -> Teacher:
        """Stay in eval mode."""
        return super().train(False)

    def __deepcopy__(self, memo: dict) -> Teacher:
        return self

    def _apply(self, fn, *args: Any, **kwargs: Any):
        for backbone in self._fast:
            backbone._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)

    def listen(self, taps: TapKeys) -> None:
        """Prepare for these taps and no others: what is not read does not run."""
        self._taps = taps
        self._fast, self._truncated = [], []
        if not taps:  # it does not run
            return
        self._stages = self._stages_needed(taps)
        if self._stages < len(self.stage_shapes):
            short = truncate(self._reader.backbone, self._stages, self.image_size)
            _share_weights(short, self._reader.backbone)
            self._truncated = [short]
            if self._reads_activations:
                self._activations = ActivationTaps(short, self.image_size)
                self._activations.record(taps.maps)
        elif self._reads_activations:
            self._reader.listen(taps)

    @property
    def _reads_activations(self) -> bool:
        return any(key.endswith((BEFORE, AFTER)) for key in self._taps.maps)

    def _stages_needed(self, taps: TapKeys) -> int:
        """Number of stages, from the first, that must run for what is read."""
        deepest = len(self.stage_shapes)
        if taps.features or taps.logits:
            return deepest
        needed = 0
        for key in taps.maps:
            number, _, at = key.removeprefix('stage').partition('.')
            if not number.isdecimal():
                return deepest
            stage = int(number)
            if at:
                stage = self._reader.activations.spot(stage).stages_needed
            needed = max(needed, stage)
        return min(needed, deepest)

    def speed_up(self) -> None:
        """Let a fast copy of the backbone (:func:`fast_copy`) with its present weights run.

        Where there is none, the backbone itself runs and one line of the log says why. Maps around
        activations are read from the backbone itself.
        """
        self._fast = []
        if self._reads_activations or not self._taps:
            return
        try:
            self._fast = [fast_copy(self._runs(), self.image_size)]
        except Exception as error:  # of whatever network a user named
            reason = ' '.join(str(error).split()) or type(error).__name__
            print_log(
                f'teacher {self.name} runs as it was trained, without its fast form: {reason}',
                logger='current',
                level=logging.WARNING,
            )

    def _runs(self) -> nn.Module:
        return (self._truncated or [self._reader.backbone])[0]

    @property
    def backbone(self) -> nn.Module:
        """The module that runs: the backbone as far as needed, or its fast copy."""
        return self._fast[0] if self._fast else self._runs()

    @torch.no_grad()
    def forward(self, images: Tensor, taps: TapKeys | None = None) -> NetworkOutput:
        """Run the network, as far as it is read, on (N, 3, H, W) images.

        Args:
            images: Normalised images.
            taps: Tensors to read; default those of :meth:`listen`. The maps have the memory format
                of the images.
        """
        if taps is not None and self._truncated and (taps.logits or taps.features):
            return self._reader.run(images, taps)
        taps = taps or self._taps
        if not taps:
            return NetworkOutput(len(self.stage_shapes), {}, {}, {})
        if not self._reader.has_one_backbone:
            output = self._reader.run(images, taps)
        else:
            maps = tuple(self.backbone(images))
            if self._truncated:
                output = self._maps_of(maps[: self._stages], taps)
            else:
                output = self._reader.read(maps, taps)
        # One conversion here, or every operation of a loss would walk through two formats.
        memory_format = torch.contiguous_format
        if not images.is_contiguous() and images.is_contiguous(memory_format=torch.channels_last):
            memory_format = torch.channels_last
        return replace(
            output,
            maps={k: v.contiguous(memory_format=memory_format) for k, v in output.maps.items()},
        )

    def _maps_of(self, maps: Sequence[Tensor], taps: TapKeys) -> NetworkOutput:
        found = {f'stage{number}': each for number, each in enumerate(maps, start=1)}
        if self._reads_activations:
            found |= self._activations.take(taps.maps, maps)
        kept = {key: found[key] for key in taps.maps}
        return NetworkOutput(len(self.stage_shapes), kept, {}, {})

    def describe(self) -> str:
        """Return name, last map and file, for the report before training."""
        if not self.stage_shapes:
            return f'teacher {self.name}: logits alone, from {self.checkpoint}'
        shape = 'x'.join(map(str, self.stage_shapes[-1]))
        return f'teacher {self.name}: last map {shape}, from {self.checkpoint}'

    def missing(self) -> str | None:
        """Return the reason why there is no file to load, and the remedy; None if there is one."""
        if self.checkpoint is None:
            problem, folder = f'teacher={self.name!r} has no checkpoint', Path('NETWORK_DATA')
        else:
            path = Path(self.checkpoint).expanduser()
            if path.is_file():
                return None
            state = 'is a directory' if path.is_dir() else 'does not exist'
            problem, folder = f'teacher.checkpoint={str(self.checkpoint)!r} {state}', path.parent
        config = folder.name if folder.parent.name == 'teacher' else 'NETWORK_DATA'
        return (
            f'{problem}: train one with `python tools/train.py configs/teacher/{config}.py` or '
            'convert published weights with `python tools/convert_checkpoint.py IN OUT --arch '
            'NETWORK`, and set model.teacher.checkpoint to the file'
        )

    def load(self) -> None:
        """Load the checkpoint, of which every key must fit, and speed up.

        Raises:
            FileNotFoundError: If no checkpoint is given or it does not exist.
            RuntimeError: If it cannot be read, or keys are missing, unexpected or of another shape.
        """
        problem = self.missing()
        if problem or self.checkpoint is None:
            raise FileNotFoundError(f'{problem}.')
        name = f'teacher checkpoint {str(self.checkpoint)!r}'
        weights = read_weights_for(self.network, self.checkpoint, name, TEACHER)
        load_strictly(self.network, weights, name)
        self.speed_up()


def _is_ours(kind: str | type) -> bool:
    """Whether a class of networks takes class count and image size, as all of this package do."""
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    return isinstance(found, type) and issubclass(found, Network)


def _share_weights(short: nn.Module, whole: nn.Module) -> None:
    """Let a truncated copy of a network use the network's own weights and buffers."""
    originals = dict(whole.named_modules())
    for name, module in short.named_modules():
        if module._parameters or module._buffers:
            module._parameters = originals[name]._parameters
            module._buffers = originals[name]._buffers


def attach(model: nn.Module, teachers: Sequence[Teacher]) -> None:
    """Give a model teachers that are none of its modules."""
    object.__setattr__(model, 'teachers', tuple(teachers))


TeacherLike: TypeAlias = str | dict | Teacher | Sequence[str | dict | Teacher] | None


def build_teachers(
    teacher: TeacherLike, num_classes: int, image_size: int | Sequence[int]
) -> list[Teacher]:
    """Build the teachers that a config names.

    Args:
        teacher: None, one network as for :class:`Teacher`, or several.
        num_classes: K of networks that are named without their class count.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
    """
    if teacher is None:
        return []
    each = [teacher] if isinstance(teacher, (str, dict, Teacher)) else list(teacher)
    if not each:
        raise ValueError(f'teacher={teacher!r} must name at least one network.')
    return [
        one if isinstance(one, Teacher) else Teacher(one, num_classes, image_size) for one in each
    ]
