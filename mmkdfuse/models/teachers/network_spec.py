"""The ways in which a config names a student or a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmkdfuse.checkpoint_reader import checkpoint_path

_PLAIN = ('Classifier', 'ImageClassifier')
# Parts of a plain classifier, and what the model that uses it says itself.
_PARTS = ('type', 'backbone', 'neck', 'head', 'num_classes', 'image_size')


@dataclass(frozen=True)
class NetworkSpec:
    """A student or teacher as a config named it.

    Attributes:
        name: For messages.
        backbone: As for :class:`Classifier`.
        neck: Config of the module between backbone and head, or None for the network's own.
        head: Config of its classifier, or None for the network's own.
        num_classes: K of the config it was named by, if that says.
        classifier: Config of the whole classifier, if it is one.
        checkpoint: File with its weights.
        others: Keys of a plain classifier's config beside backbone, neck, head and class count.

    Example:
        >>> spec = resolve_network(dict(arch='resnet18', base_channels=16))
        >>> spec.name, spec.type, spec.is_plain
        ('resnet18', 'Classifier', True)
    """

    name: str
    backbone: str | dict[str, Any]
    neck: dict[str, Any] | None = None
    head: dict[str, Any] | None = None
    num_classes: int | None = None
    classifier: dict[str, Any] | None = None
    checkpoint: str | None = None
    others: tuple[str, ...] = ()

    @property
    def type(self) -> str:
        """Class name of the classifier, without its scope."""
        return _type_of(self.classifier or {})

    @property
    def is_plain(self) -> bool:
        """Whether it is one backbone, neck and head, ours or mmpretrain's."""
        return self.type in _PLAIN

    @property
    def is_foreign(self) -> bool:
        """Whether it is mmpretrain's plain classifier."""
        return self.type == 'ImageClassifier'


def resolve_network(network: str | dict) -> NetworkSpec:
    """Bring the name of a student or teacher, in whatever way, to one form.

    Args:
        network: A network's name, ``dict(arch=name, ..)``, a backbone config, the config of a whole
            classifier, or the path of a config file with one. Any dict may hold ``checkpoint``, a
            file or ``dict(file=.., key=..)``, and ``arch`` may be a path too.

    Raises:
        FileNotFoundError: There is no such config file.
        ValueError: Changes stand beside the path of a config file.

    Example:
        >>> resolve_network(dict(arch='resnet18', checkpoint='r18.pth')).checkpoint
        'r18.pth'
    """
    spec: dict[str, Any] = dict(arch=network) if isinstance(network, str) else dict(network)
    checkpoint = spec.pop('checkpoint', None)
    if checkpoint is not None:
        checkpoint = checkpoint_path(checkpoint)
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
        name = backbone if isinstance(backbone, str) else _name_of(backbone)
    if 'backbone' not in spec and not {'student', 'teacher'} & set(spec):
        return NetworkSpec(name, backbone, checkpoint=checkpoint)
    head: dict[str, Any] = dict(spec.get('head') or {})
    classes = spec.get('num_classes', head.get('num_classes'))
    unknown = tuple(sorted(key for key, value in spec.items() if value and key not in _PARTS))
    neck = spec.get('neck')
    return NetworkSpec(name, backbone, neck, head or None, classes, spec, checkpoint, unknown)


def _name_of(backbone: dict) -> str:
    """Class, else name, of a backbone's config."""
    return str(backbone.get('type') or backbone.get('arch') or 'network')


def _type_of(classifier: dict) -> str:
    """Class name of a classifier's config, without its scope."""
    return str(classifier.get('type', 'Classifier')).rpartition('.')[2]
