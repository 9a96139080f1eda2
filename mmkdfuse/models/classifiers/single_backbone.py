"""Networks with one backbone: how it is built and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmpretrain.models.classifiers import ImageClassifier
from torch import nn

from mmkdfuse.models.classifiers.trainable import Trainable
from mmkdfuse.models.filled_in import completed
from mmkdfuse.models.inference.plain_config import plain_backbone, plain_config
from mmkdfuse.models.necks.pooling import POOLING
from mmkdfuse.models.networks import network_config
from mmkdfuse.models.probe import freeze_unreached, probe_stages
from mmkdfuse.registry import MODELS
from mmkdfuse.structures import StageShape

LINEAR = dict(type='mmpretrain.LinearClsHead')


@dataclass(frozen=True)
class Body:
    """A backbone with the facts that one dry run found about it.

    Attributes:
        config: ``backbone``, and the network's own ``neck`` and ``head`` where it has them.
        backbone: The module.
        stage_shapes: (C, H, W) of every stage.
        unreached: Names of parameters on which no stage depends; they are frozen.
        name: Name of the network, if it was given by name.
    """

    config: dict[str, Any]
    backbone: nn.Module
    stage_shapes: list[StageShape]
    unreached: list[str]
    name: str | None = None

    @classmethod
    def build(cls, backbone: str | dict, image_size: int | Sequence[int]) -> Body:
        """Build a backbone by name or config, and measure it.

        Raises:
            ValueError: If it is unknown or yields no (N, C, H, W) maps.
        """
        config = network_config(backbone)
        module = MODELS.build(config['backbone'])
        shapes = probe_stages(module, image_size)
        name = backbone if isinstance(backbone, str) else None
        if name is None and isinstance(backbone, dict) and 'type' not in backbone:
            name = backbone['arch']
        return cls(config, module, shapes, freeze_unreached(module, image_size), name)

    @property
    def plain_config(self) -> dict:
        """Config of the backbone as it ships."""
        return plain_backbone(self.config['backbone'], self.backbone)


class SingleBackbone(Trainable, ImageClassifier):
    """Base class of trainable networks with one backbone.

    A subclass hands over its neck and head, and ends its constructor with :meth:`assemble`.

    Args:
        body: The backbone, built and measured.
        neck: Module between backbone and head.
        head: Classifier or classifiers.
        num_classes: K.
        image_size: Side length or (height, width) of the dry run's image, in pixels.
        verify_teacher: Let ``VerifyTeacherHook`` score the teachers before training.
        data_preprocessor: Config; the runner fills in the top-level one.
        train_cfg: Batch augmentations of mmpretrain's ``ClsDataPreprocessor``.
        pretrained: Checkpoint to start from.
        init_cfg: Initialisation of mmengine.
    """

    def __init__(
        self,
        body: Body,
        neck: nn.Module,
        head: nn.Module,
        num_classes: int,
        image_size: int | Sequence[int],
        verify_teacher: bool = True,
        data_preprocessor: dict | nn.Module | None = None,
        train_cfg: dict | None = None,
        pretrained: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if pretrained is not None and init_cfg is not None:
            raise ValueError(
                f'{type(self).__name__}: init_cfg={init_cfg} would be ignored beside '
                f'pretrained={pretrained!r}, expected one of them.'
            )
        super().__init__(
            backbone=body.backbone,
            data_preprocessor=build_preprocessor(data_preprocessor, train_cfg, num_classes),
            pretrained=pretrained,
            init_cfg=init_cfg,
        )
        self.neck: Any = neck
        self.head: Any = head
        self.num_classes = num_classes
        self.image_size = image_size
        self.verify_teacher = verify_teacher
        self.body = body

    @property
    def stage_shapes(self) -> list[StageShape]:  # type: ignore[override]
        """(C, H, W) of every stage for images of ``image_size``."""
        return self.body.stage_shapes

    def costs_beside(self, head: str) -> dict[str, nn.Module]:
        """Return the trained model and, beside another head, its main network."""
        networks: dict[str, nn.Module] = {'trained model': self}
        return networks if head == 'main' else {**networks, 'main network': self.deployed()}

    def describe_network(self) -> list[str]:
        """Return the facts of the dry run, one line each."""
        lines = super().describe_network()
        if self.body.unreached:
            names = ', '.join(self.body.unreached)
            lines.append(f'frozen, because no stage depends on them: {names}')
        return lines


def check_num_classes(num_classes: int, name: str = 'num_classes') -> None:
    """Raise if a class count is no positive integer."""
    if not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f'{name}={num_classes!r} must be a positive integer.')


def build_preprocessor(
    data_preprocessor: dict | nn.Module | None, train_cfg: dict | None, num_classes: int
) -> nn.Module:
    """Build a data preprocessor, mmpretrain's by default.

    Args:
        data_preprocessor: A config or a module.
        train_cfg: Batch augmentations for it.
        num_classes: K, which they need for soft labels.

    Raises:
        ValueError: If it has batch augmentations of its own, or is built already.
    """
    built = isinstance(data_preprocessor, nn.Module)
    cfg: dict = {} if isinstance(data_preprocessor, nn.Module) else dict(data_preprocessor or {})
    if train_cfg is not None and (built or cfg.get('batch_augments')):
        raise ValueError(
            f'train_cfg={train_cfg} would be ignored beside a data_preprocessor that '
            + ('is built already' if built else f'has batch_augments={cfg["batch_augments"]}')
            + ', expected one of them.'
        )
    if isinstance(data_preprocessor, nn.Module):
        return data_preprocessor
    cfg.setdefault('type', 'mmpretrain.ClsDataPreprocessor')
    if train_cfg is not None:
        cfg['batch_augments'] = train_cfg
    if cfg.get('batch_augments'):
        cfg = completed(cfg, num_classes=num_classes)
    return MODELS.build(cfg)


def plain_head(config: dict | None, num_classes: int, in_channels: int) -> dict:
    """Config of a classifier as it ships, class count and channels written out."""
    return {
        **plain_config(config or LINEAR),
        'num_classes': num_classes,
        'in_channels': in_channels,
    }


def plain_classifier(
    backbone: nn.Module, head: nn.Module, neck: nn.Module | None = None
) -> ImageClassifier:
    """Put a network together as mmpretrain would, sharing the weights.

    Args:
        backbone: Returns a tuple of maps.
        head: The classifier.
        neck: Module in between; default global average pooling.
    """
    neck = neck or MODELS.build(POOLING)
    model = ImageClassifier(backbone=backbone, neck=neck, head=head)
    return model.train(backbone.training)
