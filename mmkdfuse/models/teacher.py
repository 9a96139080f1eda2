"""A trained network that is asked and never changed."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from torch import Tensor, nn

from mmkdfuse.checkpoint import load_file, load_strictly
from mmkdfuse.models.classifiers.classifier import Classifier
from mmkdfuse.models.fast_teacher import fast_copy
from mmkdfuse.models.probe import as_size, probe_stages, stage_maps
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import NetworkOutput


@dataclass(frozen=True)
class NetworkSpec:
    """A student or teacher as a config named it.

    Attributes:
        name: For messages.
        backbone: As for :class:`Classifier`.
        head: Config of its classifier, or None for the network's own.
        num_classes: K of the config it was named by, if that says.
        classifier: Config of the whole classifier, if it is not this package's ``Classifier``.
        checkpoint: File with its weights.
    """

    name: str
    backbone: str | dict[str, Any]
    head: dict[str, Any] | None = None
    num_classes: int | None = None
    classifier: dict[str, Any] | None = None
    checkpoint: str | None = None


def resolve_network(network: str | dict) -> NetworkSpec:
    """Bring the ways to name a student or teacher to one form.

    Args:
        network: A network's name, ``dict(arch=name, ..)``, a backbone config, the config of a whole
            classifier, or the path of a config file with one; any dict may hold ``checkpoint``, and
            ``arch`` may be a path too.

    Raises:
        FileNotFoundError: There is no such config file.
        ValueError: Changes stand beside the path of a config file.
    """
    spec: dict[str, Any] = dict(arch=network) if isinstance(network, str) else dict(network)
    checkpoint = spec.pop('checkpoint', None)
    name = spec.get('arch')
    if 'type' not in spec and isinstance(name, str) and name.endswith('.py'):
        others = sorted(set(spec) - {'arch'})
        if others:
            raise ValueError(
                f'arch={name!r} takes `checkpoint` beside it, not {", ".join(others)}.'
            )
        if not Path(name).is_file():
            raise FileNotFoundError(f'arch={name!r} is no config file.')
        spec = dict(Config.fromfile(name).model)
    backbone = spec.get('backbone', spec)
    if name is None:
        name = backbone if isinstance(backbone, str) else backbone.get('type', 'network')
    if 'backbone' not in spec:
        return NetworkSpec(name, backbone, checkpoint=checkpoint)
    ours = spec.get('type', 'Classifier').rpartition('.')[2] == 'Classifier'
    head = dict(spec.get('head') or {})
    classes = spec.get('num_classes', head.pop('num_classes', None))
    head.pop('in_channels', None)
    return NetworkSpec(
        name, backbone, head or None, classes, None if ours else spec, checkpoint=checkpoint
    )


class Teacher(nn.Module):
    """Frozen, always in eval mode, without gradients, and no part of the model that asks it.

    It is held outside the model's modules (:func:`attach`), so that no optimiser, checkpoint,
    average of weights or gradient bucket sees it, and it is shared by copies of the model.

    Once its weights are loaded, a cheaper copy of its backbone runs in its place
    (:meth:`speed_up`); the network itself stays as it was trained.

    Args:
        network: As for :func:`resolve_network`.
        num_classes: K; the network must have been trained for as many.
        image_size: Side length or (height, width) of the dry run's image, in pixels.

    Attributes:
        network: The classifier that answers: ``backbone``, ``neck``, ``head``.
        image_size: As given.
        stage_shapes: (C, H, W) of its stage maps for images of ``image_size``; its classifier pools
            the last one.

    Raises:
        ValueError: If the class counts differ, or its classifier needs more than its last map.
    """

    def __init__(
        self, network: str | dict, num_classes: int, image_size: int | Sequence[int]
    ) -> None:
        super().__init__()
        spec = resolve_network(network)
        self.name, self.checkpoint = spec.name, spec.checkpoint
        self.image_size = image_size
        if spec.classifier:
            trained = MODELS.build(spec.classifier)
        else:
            classes = spec.num_classes or num_classes
            trained = Classifier(spec.backbone, classes, image_size, head=spec.head)
        # A self-distilled network teaches by its main head; its checkpoint holds the branches too.
        # In a list, to be no module of this one.
        self._trained = [trained]
        self._fast: list[nn.Module] = []  # likewise; empty or one backbone
        self.network = trained.deployed() if isinstance(trained, Classifier) else trained
        self.network.requires_grad_(False)
        self.eval()
        self.stage_shapes = probe_stages(self.network.backbone, image_size)
        self._check(num_classes, image_size)

    @torch.no_grad()
    def _check(self, num_classes: int, image_size: int | Sequence[int]) -> None:
        # Not a black image: without biases every map of it is zero, and any classifier would fit.
        height, width = as_size(image_size)
        parameter = next(self.network.parameters())
        image = torch.linspace(-1, 1, 3 * height * width).reshape(1, 3, height, width)
        image = image.to(parameter)
        logits = self.network(image)
        if logits.shape[1] != num_classes:
            raise ValueError(
                f'teacher={self.name!r} has {logits.shape[1]} classes, expected those of the '
                f'student, num_classes={num_classes}.'
            )
        if not torch.allclose(self(image).logits[-1], logits, rtol=1e-4, atol=1e-5):
            raise ValueError(
                f'teacher={self.name!r}: its classifier does not give its logits from its last '
                'map alone, expected a network that pools its last map and classifies it.'
            )

    @property
    def trained(self) -> nn.Module:
        """The whole classifier as it was trained, of which :attr:`network` is a part."""
        return self._trained[0]

    def train(self, mode: bool = True) -> 'Teacher':
        """Stay in eval mode."""
        return super().train(False)

    def __deepcopy__(self, memo: dict) -> 'Teacher':
        return self

    def _apply(self, fn, *args: Any, **kwargs: Any):
        for backbone in self._fast:
            backbone._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)

    def speed_up(self) -> None:
        """Let a fast copy of the backbone (:func:`fast_copy`) with its present weights answer.

        Where there is none, the backbone itself answers and one line of the log says why.
        """
        self._fast = []
        try:
            self._fast = [fast_copy(self.network.backbone, self.image_size)]
        except Exception as error:  # of whatever network a user named
            reason = ' '.join(str(error).split()) or type(error).__name__
            print_log(
                f'teacher {self.name} runs as it was trained, without its fast form: {reason}',
                logger='current',
                level=logging.WARNING,
            )

    @property
    def backbone(self) -> nn.Module:
        """What runs: the fast copy of the network's backbone, or the backbone itself."""
        return self._fast[0] if self._fast else self.network.backbone

    @torch.no_grad()
    def forward(
        self, inputs: Tensor, classify: bool = True, stages: slice = slice(None)
    ) -> NetworkOutput:
        """Run the network, or its backbone alone, on (N, 3, H, W) images.

        Args:
            inputs: Normalised images.
            classify: Whether features and logits are read.
            stages: Which stage maps are; the others are freed here. They have the memory format of
                the images.
        """
        maps = stage_maps(self.backbone(inputs), self.backbone)
        # One conversion here, or every operation of a loss would walk through two formats.
        memory_format = torch.contiguous_format
        if not inputs.is_contiguous() and inputs.is_contiguous(memory_format=torch.channels_last):
            memory_format = torch.channels_last
        kept = tuple(each.contiguous(memory_format=memory_format) for each in maps[stages])
        if not classify:
            return NetworkOutput(kept, (), ())
        features = tuple(self.network.neck(maps[-1:])) if self.network.with_neck else maps[-1:]
        return NetworkOutput(kept, features, (self.network.head(features),))

    def missing(self) -> str | None:
        """Return why there is no file to load and how to get one, or None if there is one."""
        if self.checkpoint is None:
            problem, folder = f'teacher={self.name!r} has no checkpoint', Path('NETWORK_DATA')
        else:
            problem = f'teacher.checkpoint={str(self.checkpoint)!r} does not exist'
            folder = Path(self.checkpoint).expanduser().parent
            if Path(self.checkpoint).expanduser().is_file():
                return None
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
            RuntimeError: If keys are missing, unexpected or of another shape.
        """
        problem = self.missing()
        if problem or self.checkpoint is None:
            raise FileNotFoundError(f'{problem}.')
        state = load_file(self.checkpoint)
        weights = state.get('state_dict', state)
        name = f'teacher checkpoint {str(self.checkpoint)!r}'
        if not all(isinstance(value, Tensor) for value in weights.values()):
            raise RuntimeError(
                f'{name} holds {", ".join(map(repr, list(weights)[:5]))} and no `state_dict`: '
                'convert published weights with `python tools/convert_checkpoint.py IN OUT --arch '
                'NETWORK`.'
            )
        load_strictly(self.trained, weights, name)
        self.speed_up()


def attach(model: nn.Module, teachers: Sequence[Teacher]) -> None:
    """Give a model teachers that are none of its modules."""
    object.__setattr__(model, 'teachers', tuple(teachers))
