"""Several networks side by side, each a head (DML)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import ModuleList
from mmpretrain.models.classifiers import ImageClassifier
from torch import Tensor, nn

from mmkdfuse.models.classifiers.classifier import Classifier
from mmkdfuse.models.classifiers.multi_head import MultiHead, branch_names
from mmkdfuse.models.classifiers.network import Export
from mmkdfuse.models.classifiers.single_backbone import SingleBackbone
from mmkdfuse.models.losses.classification import with_task_loss
from mmkdfuse.models.losses.loss import Loss
from mmkdfuse.models.teachers.teacher import TeacherLike, build_teachers
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import MAIN, NetworkOutput, TapKeys


@MODELS.register_module()
class PeerClassifier(MultiHead, SingleBackbone):
    """A network and its peers; the network itself is the main head and the one that ships.

    By itself it trains every network on the labels.

    Args:
        backbone: The network, as for :class:`Classifier`.
        num_classes: K.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
        peers: Number of further networks like it, or a list of their backbones (names or configs).
        neck: As for :class:`Classifier`, of the network itself.
        head: As for :class:`Classifier`, of the network itself.
        predict_from: As for :class:`BranchedClassifier`; peers are ``branch1``, ``branch2``, ..
        teacher: Networks that teach, as for :class:`Distiller`.
        losses: Losses beside the heads' own, which a ``ClassificationLoss`` in the list replaces.
        views: Config of a module that makes several views of every image in training.
        **kwargs: ``data_preprocessor``, ``init_cfg``, .. of :class:`SingleBackbone`.

    Raises:
        ValueError: If there is no peer, or the head to predict from does not exist.

    Example:
        >>> model = PeerClassifier(dict(arch='resnet18', base_channels=4), 10, 32, peers=2)
        >>> model.head_names
        ('branch1', 'branch2', 'main')
    """

    has_one_backbone = False

    def __init__(
        self,
        backbone: str | dict,
        num_classes: int,
        image_size: int | Sequence[int],
        peers: int | Sequence[str | dict] = 1,
        neck: dict | None = None,
        head: dict | None = None,
        predict_from: str = MAIN,
        teacher: TeacherLike = None,
        losses: Sequence[dict | Loss] = (),
        views: dict | nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        backbones = [backbone] * peers if isinstance(peers, int) else list(peers)
        if not backbones:
            raise ValueError(
                f'{type(self).__name__}: peers={peers!r} must be a number from 1 or a list of '
                'backbones.'
            )
        teachers = build_teachers(teacher, num_classes, image_size)
        own = Classifier(backbone, num_classes, image_size, neck=neck, head=head)
        others = [Classifier(peer, num_classes, image_size) for peer in backbones]
        super().__init__(own.body, own.neck, own.head, num_classes, image_size, **kwargs)
        self._own = [own]  # in a list, to be no module of this one: its parts are
        self.peers = ModuleList(others)
        self.head_names = branch_names(len(others))
        self.choose_head(predict_from)
        self.assemble(with_task_loss(losses), teachers, views)

    @property
    def main_head(self) -> nn.Module:
        """The network's own classifier."""
        return self.head

    def run(self, images: Tensor, taps: TapKeys) -> NetworkOutput:
        """Run the peers that are read, and the network, once on (N, 3, H, W) images."""
        features: dict[str, Tensor] = {}
        logits: dict[str, Tensor] = {}
        for name, peer in zip(self.head_names[:-1], self.peers, strict=True):
            read = _taps_of(name, taps)
            if read:
                output = peer.run(images, read)
                if read.features:
                    features[name] = output.feature
                if read.logits:
                    logits[name] = output.logits
        main = _taps_of(MAIN, taps)
        output = self._own[0].run(images, TapKeys(taps.maps, main.features, main.logits))
        return NetworkOutput(
            output.num_stages,
            output.maps,
            features | dict(output.head_features),
            logits | dict(output.head_logits),
        )

    def listen(self, taps: TapKeys) -> None:
        """Prepare for these taps."""
        self._own[0].listen(taps)

    def deployed(self) -> ImageClassifier:
        """Return the network itself as the plain mmpretrain classifier that ships."""
        return self._own[0].deployed()

    def heads(self) -> tuple[str, ...]:
        """Names of the heads that can be deployed; the ensemble would be several networks."""
        return self.head_names

    def export(self, head: str = MAIN) -> Export:
        """Return one of the networks as a plain classifier."""
        if head == MAIN:
            return self._own[0].export()
        return self.peers[self.head_names.index(head)].export()

    def describe_network(self) -> list[str]:
        """Return the facts of the dry run, one line each."""
        peers = enumerate(self.peers, start=1)
        shapes = [f'branch{n}, a peer: {peer.describe()[0]}' for n, peer in peers]
        return [*super().describe_network(), *shapes]


def _taps_of(head: str, taps: TapKeys) -> TapKeys:
    """Taps of one network, which knows itself as the main head."""
    return TapKeys(
        (),
        (MAIN,) if head in taps.features else (),
        (MAIN,) if head in taps.logits else (),
    )
