"""Classifiers of mmpretrain as networks that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mmkdfuse.models.classifiers.network import Export, Network
from mmkdfuse.models.inference.plain_config import plain_config
from mmkdfuse.models.probe import probe_stages
from mmkdfuse.structures import MAIN, NetworkOutput, TapKeys


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
