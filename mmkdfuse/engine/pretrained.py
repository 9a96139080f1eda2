"""Weights that training starts from: they arrive completely or are refused."""

import re
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import PretrainedInit, update_init_info
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint
from torch import Tensor, nn

from mmkdfuse.checkpoint import list_mismatches
from mmkdfuse.checkpoint_reader import checkpoint_path
from mmkdfuse.engine.loss_context import unwrapped
from mmkdfuse.models.classifiers.trainable import Trainable
from mmkdfuse.models.file_weights import weights_for
from mmkdfuse.models.probe import find_unreached
from mmkdfuse.registry import WEIGHT_INITIALIZERS


def load_start_weights(
    model: nn.Module, content: Mapping[str, Any], name: str, key: str | None = None
) -> list[str]:
    """Load a checkpoint of the model itself, or of its main network alone.

    The main network is what ``model.deployed()`` returns, a plain mmpretrain classifier with keys
    ``backbone.*`` and ``head.*``. A file with any key that only the whole model has must fit the
    whole model, another one the main network. The last layers of classifiers of another class count
    keep their initialisation, and are reported. Where the file holds the main network, so does
    everything that this network does not depend on: branches, norms of shallow stages.

    Args:
        model: A classifier of this package.
        content: Content of the file, see :func:`~mmkdfuse.models.file_weights.weights_for`.
        name: Name of the weights, for messages, e.g. ``load_from='resnet50.pth'``.
        key: Place of the weights in the content; default the usual places.

    Returns:
        The parts that keep their initialisation, one sentence a fact.

    Raises:
        RuntimeError: The content holds no finite weights, or other keys are missing, unexpected or
            of another shape; all are named (ten of each kind).
    """
    weights = weights_for(model, content, name, key)
    main = model.deployed()  # type: ignore[operator]
    own, of_main = set(model.state_dict()), set(main.state_dict())
    whole = own == of_main or any(key in own - of_main for key in weights)
    target = model if whole else main
    left = _classifiers_of_other_size(model, target, weights)
    kept = {key: value for key, value in weights.items() if key not in left}
    missing, unexpected, misshapen = _load(target, kept)
    missing = [key for key in missing if key not in left]
    spare: list[str] = []
    if missing and not whole:
        modules = {_module_of(key) for key in find_unreached(main, model.image_size)}  # type: ignore
        spare = [key for key in missing if _module_of(key) in modules]
    problems = list_mismatches(
        missing=[key for key in missing if key not in spare],
        unexpected=unexpected,
        misshapen=misshapen,
    )
    if problems:
        raise RuntimeError(
            f'{name} does not fit {"" if whole else "the main network of "}{type(model).__name__}; '
            + '; '.join(problems)
            + ': give the file of the same network, or for a backbone alone '
            "`model.backbone.init_cfg=dict(type='Pretrained', checkpoint=.., prefix=..)`"
        )
    facts = []
    if left:
        classes = ' and '.join(str(n) for n in sorted({weights[key].shape[0] for key in left}))
        facts.append(
            f'{name}: {", ".join(left)} of the file are for {classes} classes, these classifiers '
            f'of the model for {model.num_classes} are left at their initialisation.'
        )
    if not whole:
        loaded = {id(parameter) for parameter in main.parameters()}
        others = [key for key, parameter in model.named_parameters() if id(parameter) not in loaded]
        parts = dict.fromkeys('.'.join(key.split('.')[:2]) for key in others)
        parts.update(dict.fromkeys(_module_of(key) for key in spare))
        facts.append(
            f'{name} holds the main network, left at their initialisation are: {", ".join(parts)}.'
        )
    return facts


def _classifiers_of_other_size(
    model: nn.Module, target: nn.Module, weights: Mapping[str, Tensor]
) -> list[str]:
    """Keys of last layers that differ in the class count and in nothing else."""
    return [
        key
        for key, value in target.state_dict().items()
        if key.startswith('head.')
        and key in weights
        and value.shape[:1] == (model.num_classes,)
        and weights[key].shape[:1] != value.shape[:1]
        and weights[key].shape[1:] == value.shape[1:]
    ]


def _load(
    module: nn.Module, weights: Mapping[str, Tensor]
) -> tuple[list[str], list[str], list[str]]:
    """Load what fits and return the keys that are missing, unexpected and misshapen.

    The module decides, not a comparison of shapes: transformers resize their position embeddings.
    """
    sizes = {}
    try:
        result = module.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        pattern = r'size mismatch for (\S+): .*? shape torch.Size\((.*?)\) .*? torch.Size\((.*?)\)'
        sizes = {key: shapes for key, *shapes in re.findall(pattern, str(error))}
        if not sizes:
            raise
        fitting = {key: value for key, value in weights.items() if key not in sizes}
        result = module.load_state_dict(fitting, strict=False)
    missing = [key for key in result.missing_keys if key not in sizes]
    misshapen = [f'{key} {found} instead of {wanted}' for key, (found, wanted) in sizes.items()]
    return missing, list(result.unexpected_keys), misshapen


def _module_of(key: str) -> str:
    return key.rpartition('.')[0]


class StartWeightsHook(Hook):
    """Hook that loads ``load_from`` by :func:`load_start_weights`; a resume is left to the Runner.

    The Runner by itself drops every key that does not fit, without an error.
    """

    priority = 'VERY_HIGH'  # before hooks that use the checkpoint, such as EMAHook

    def before_run(self, runner: Runner) -> None:
        """Bring ``load_from=dict(file=.., key=..)`` to the form that the Runner takes."""
        if runner._load_from is not None:
            runner._load_from = checkpoint_path(runner._load_from, 'load_from')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Load the weights and leave the model's own, complete, to the Runner and other hooks."""
        if runner._resume:
            return
        model = unwrapped(runner.model)
        if not isinstance(model, Trainable):
            return
        path = checkpoint_path(runner._load_from, 'load_from')
        name = f'load_from={str(path)!r}'
        for fact in load_start_weights(model, checkpoint, name, path.key):
            runner.logger.info(fact)
        checkpoint['state_dict'] = model.state_dict()


@WEIGHT_INITIALIZERS.register_module(name='Pretrained')
class StrictPretrainedInit(PretrainedInit):
    """``init_cfg=dict(type='Pretrained', checkpoint=.., prefix=..)`` that does not fail silently.

    A whole classifier is loaded by :func:`load_start_weights`. In a part, such as the backbone, the
    file must hold every weight of two or more dimensions with its shape. Norms of stages that the
    file's network did not expose may be missing, and other keys of the file are not used.

    Args:
        checkpoint: File or address, or ``dict(file=.., key=..)``.
        prefix: Only the keys that start with it, e.g. ``'backbone'``.
        map_location: Device of the tensors.

    Raises:
        RuntimeError: Nothing has this prefix, or weights are missing or of another shape.

    Example:
        >>> import tempfile
        >>> from mmkdfuse.registry import WEIGHT_INITIALIZERS
        >>> cfg = dict(type='mmkdfuse.Pretrained', checkpoint='resnet50.pth', prefix='backbone')
        >>> init = WEIGHT_INITIALIZERS.build(cfg)
        >>> type(init).__name__, init.prefix
        ('StrictPretrainedInit', 'backbone')
    """

    def __call__(self, module: nn.Module) -> None:
        path = checkpoint_path(self.checkpoint, 'init_cfg.checkpoint')
        content = _load_checkpoint(path, map_location=self.map_location)
        name = f"init_cfg of type 'Pretrained', checkpoint={str(path)!r}"
        if isinstance(module, Trainable) and self.prefix is None:
            facts = load_start_weights(module, content, name, path.key)
        else:
            facts = self._load_part(module, self._of_part(module, content, name, path.key), name)
        for fact in facts:
            print_log(fact, logger='current')
        if hasattr(module, '_params_init_info'):  # while mmengine keeps account of who set what
            update_init_info(module, init_info=self._get_init_info())

    def _of_part(
        self, module: nn.Module, content: Mapping[str, Any], name: str, key: str | None
    ) -> dict[str, Tensor]:
        """Weights with the prefix, without it; all of them where they are named for the part."""
        prefix = '' if self.prefix is None else self.prefix.rstrip('.') + '.'
        weights = weights_for(module, content, name, key, prefix=prefix)
        named = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        if named:
            return named
        own = module.state_dict()
        if prefix == 'backbone.' and any(key in own for key in weights):
            return weights
        found = sorted({each.split('.')[0] for each in weights})
        raise RuntimeError(
            f'{name}: no key starts with prefix={self.prefix!r}; '
            f'the keys start with {", ".join(found[:10])}'
        )

    @staticmethod
    def _load_part(module: nn.Module, weights: Mapping[str, Tensor], name: str) -> list[str]:
        missing, unused, misshapen = _load(module, weights)
        own = module.state_dict()
        lacking = [key for key in missing if own[key].ndim > 1]
        problems = list_mismatches(missing=lacking, misshapen=misshapen)
        if problems:
            raise RuntimeError(
                f'{name} does not fit {type(module).__name__}; '
                + '; '.join(problems)
                + ": give the file of the same network and the `prefix` of its part, 'backbone' "
                'for a classifier'
            )
        facts = list_mismatches(**{'left at their initialisation': missing, 'not used': unused})
        return [f'{name}, {fact}' for fact in facts]
