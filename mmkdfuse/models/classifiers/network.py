"""Interface of a network to the parts that read, train and ship it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from mmkdfuse.models.heads.task_loss import TaskLoss
from mmkdfuse.models.probe import as_size, dry_run
from mmkdfuse.models.taps import ActivationTaps
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


@dataclass(frozen=True)
class Export:
    """A plain classifier that ships, and where its weights come from.

    Attributes:
        config: Of mmpretrain's ``ImageClassifier``, the data preprocessor left out.
        weights: Trained modules by the prefix that their weights have in it.

    Example:
        >>> from mmkdfuse.models import Classifier
        >>> model = Classifier(dict(arch='resnet18', base_channels=4), 10, image_size=32)
        >>> sorted(model.export('main').weights)
        ['backbone', 'head', 'neck']
    """

    config: dict[str, Any]
    weights: dict[str, nn.Module]


class Network:
    """Base class of networks: images in, :class:`NetworkOutput` out, every head exportable.

    ``image_size``, ``num_classes`` and ``stage_shapes`` are attributes of every network.

    Example:
        >>> import torch
        >>> from mmkdfuse.models import Classifier
        >>> model = Classifier(dict(arch='resnet18', base_channels=4), 10, image_size=32)
        >>> isinstance(model, Network), model.heads()
        (True, ('main',))
        >>> model.run(torch.zeros(2, 3, 32, 32), TapKeys(maps=('stage1',))).stage(1).shape
        torch.Size([2, 4, 32, 32])
    """

    num_classes: int
    image_size: int | Sequence[int]
    stage_shapes: list[tuple[int, int, int]]
    head_names: tuple[str, ...] = (MAIN,)
    has_one_backbone: bool = True
    reuses_teachers: bool = False  # their classifiers are part of it
    backbone: Any

    def run(self, images: Tensor, taps: TapKeys) -> NetworkOutput:
        """Run the network once on images (N, C, H, W), as far as it is read."""
        return self.read(tuple(self.backbone(images)), taps)

    def read(self, maps: Sequence[Tensor], taps: TapKeys) -> NetworkOutput:
        """Compute the tensors that are read from the backbone's stage maps."""
        raise NotImplementedError

    def listen(self, taps: TapKeys) -> None:
        """Prepare for these taps: maps around activations are kept from now on."""
        if any(key.endswith((BEFORE, AFTER)) for key in taps.maps):
            self.activations.record(taps.maps)

    def maps_read(self, maps: Sequence[Tensor], taps: TapKeys) -> dict[str, Tensor]:
        """Return the stage maps that are read, by key, also those around activations."""
        if not taps.maps:
            return {}
        found = {f'stage{number}': each for number, each in enumerate(maps, start=1)}
        if any(key.endswith((BEFORE, AFTER)) for key in taps.maps):
            found |= self.activations.take(taps.maps, maps)
        return {key: found[key] for key in taps.maps if key in found}

    @cached_property
    def activations(self) -> ActivationTaps:
        """Maps of the backbone before and after its activations."""
        return ActivationTaps(self.backbone, self.image_size)

    @property
    def module(self) -> nn.Module:
        """The module that holds the weights."""
        return self  # type: ignore[return-value]

    @property
    def main_head(self) -> nn.Module:
        """The main network's classifier, which takes a tuple of features."""
        raise NotImplementedError

    @property
    def task_loss(self) -> TaskLoss:
        """Loss of the network's own head with the labels."""
        return TaskLoss(self.main_head)

    def heads(self) -> tuple[str, ...]:
        """Names of the heads that can be deployed."""
        return (MAIN,)

    def export(self, head: str = MAIN) -> Export:
        """Return a head of :meth:`heads` as a plain classifier."""
        raise NotImplementedError

    def deployed(self) -> Any:
        """Return the main head as a plain mmpretrain classifier that shares the weights."""
        raise NotImplementedError

    def costs_beside(self, head: str) -> dict[str, nn.Module]:
        """Return the networks whose costs are shown beside a deployed head's, by name."""
        raise NotImplementedError

    def exits(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return path and classifier of every branch, shallow to deep, for early exits.

        Raises:
            ValueError: If there are no branches on one network to leave at.
        """
        raise ValueError(
            f'model={type(self).__name__} has no branches on one network to leave at, expected a '
            'BranchedClassifier such as KFMSD.'
        )

    def info(self, name: str = 'student') -> NetworkInfo:
        """Return measured facts about the network; a dry run measures a shape when it is read."""
        measured: dict[str, tuple[int, ...]] = {}

        def shape(key: str) -> tuple[int, ...]:
            if key.endswith((BEFORE, AFTER)):
                self.activations.spot(int(key.removeprefix('stage').partition('.')[0]))
                return self.activations.shapes[key]
            if not measured:
                measured.update(self._measure())
            return measured[key]

        return NetworkInfo(
            name,
            self.num_classes,
            as_size(self.image_size),
            tuple(self.stage_shapes),
            self.head_names,
            shape,
            lambda stage: self.activations.norm(stage),
            self.task_loss,
            lambda feature: self.main_head((feature,)),
        )

    def _measure(self) -> dict[str, tuple[int, ...]]:
        """Shapes of stage maps, features and logits of one image."""
        count = len(self.stage_shapes)
        taps = Taps(stages=ALL, features=ALL, logits=ALL).resolved(count, self.head_names, 'probe')
        output = dry_run(self.module, self.image_size, call=lambda image: self.run(image, taps))
        shapes = {key: tuple(each.shape[1:]) for key, each in output.maps.items()}
        for kind, found in (('feature', output.head_features), ('logits', output.head_logits)):
            shapes |= {f'{kind}.{head}': tuple(each.shape[1:]) for head, each in found.items()}
        return shapes
