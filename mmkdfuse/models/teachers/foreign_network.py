"""Classifiers that are not ours as networks that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mmkdfuse.models.classifiers.network import Export, Network
from mmkdfuse.models.inference.plain_config import plain_config
from mmkdfuse.models.probe import (
    dry_run,
    evaluation,
    probe_stages,
    relative_difference,
    trial_images,
)
from mmkdfuse.structures import MAIN, NetworkInfo, NetworkOutput, TapKeys


class ForeignNetwork(Network):
    """A classifier of mmpretrain with ``backbone``, ``neck`` and ``head``.

    Args:
        model: The classifier; it is not changed.
        config: Config that it was built from.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
    """

    def __init__(self, model: nn.Module, config: dict, image_size: int | Sequence[int]) -> None:
        self.model: Any = model
        self.config = config
        self.image_size = image_size
        self.stage_shapes = probe_stages(self.backbone, image_size)
        self.num_classes = self._measure()['logits.main'][0]

    @property
    def module(self) -> nn.Module:
        """The classifier."""
        return self.model

    @property
    def backbone(self) -> Any:
        """The classifier's backbone."""
        return self.model.backbone

    @property
    def main_head(self) -> nn.Module:
        """The classifier's head."""
        return self.model.head

    def read(self, maps: Sequence[Tensor], taps: TapKeys) -> NetworkOutput:
        """Compute the tensors that are read from the backbone's stage maps."""
        features: dict[str, Tensor] = {}
        logits: dict[str, Tensor] = {}
        if taps.features or taps.logits:
            pooled = tuple(self.model.neck(tuple(maps))) if self.model.with_neck else tuple(maps)
            features = dict.fromkeys(taps.features, pooled[-1])
            logits = {head: self.model.head(pooled) for head in taps.logits}
        return NetworkOutput(len(self.stage_shapes), self.maps_read(maps, taps), features, logits)

    def deployed(self) -> nn.Module:
        """Return the classifier itself."""
        return self.model

    def export(self, head: str = MAIN) -> Export:
        """Return its config and where its weights are."""
        config = plain_config(dict(self.config))
        return Export(config, {'': self.model})


class LogitNetwork(Network):
    """Any network that gives logits (N, K), read as nothing else.

    Class-token transformers, backbones that pool by themselves, and classifiers whose logits do not
    follow from backbone, neck and head are read in this way.

    Args:
        model: The network; it is not changed.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
        reason: Why its maps cannot be read, a sentence without its full stop.

    Raises:
        ValueError: If it gives no logits.
    """

    has_one_backbone = False

    def __init__(self, model: nn.Module, image_size: int | Sequence[int], reason: str) -> None:
        self.model: Any = model
        self.image_size = image_size
        self.reason = reason
        self.stage_shapes = []
        found = dry_run(model, image_size)
        if not isinstance(found, Tensor) or found.ndim != 2:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f'teacher: {type(model).__name__} gives {shape}, expected logits (N, K); {reason}.'
            )
        self.num_classes = found.shape[1]

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.model

    @property
    def main_head(self) -> nn.Module:
        """The network, which has no head of its own to reuse."""
        return self.model

    def run(self, images: Tensor, taps: TapKeys) -> NetworkOutput:
        """Run the network once on images (N, C, H, W).

        Raises:
            ValueError: If more than its logits is read.
        """
        if taps.features or taps.maps:
            raise ValueError(f'{", ".join((*taps.features, *taps.maps))}: {self.reason}.')
        return NetworkOutput(0, {}, {}, dict.fromkeys(taps.logits, self.model(images)))

    def info(self, name: str = 'teacher') -> NetworkInfo:
        """Return measured facts about the network."""
        return replace(super().info(name), logits_alone=self.reason)

    def _measure(self) -> dict[str, tuple[int, ...]]:
        return {f'logits.{MAIN}': (self.num_classes,)}

    def deployed(self) -> nn.Module:
        """Return the network itself."""
        return self.model


def read_foreign(
    model: nn.Module, config: dict, image_size: int | Sequence[int]
) -> ForeignNetwork | LogitNetwork:
    """Read a network of others as far as it can be read: maps and logits, or logits alone.

    Args:
        model: The network.
        config: Config that it was built from.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
    """
    try:
        network = ForeignNetwork(model, config, image_size)
        image = trial_images(1, image_size, model)
        with evaluation(model), torch.no_grad():
            found = network.run(image, TapKeys(logits=(MAIN,))).logits
            if not relative_difference(found, model(image)) <= 1e-4:
                raise ValueError(
                    'its classifier does not give its logits from its last map alone, expected a '
                    'network that pools its last map and classifies it'
                )
    except (ValueError, AttributeError, TypeError) as error:
        return LogitNetwork(model, image_size, str(error).rstrip('.'))
    return network
