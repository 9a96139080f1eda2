"""Weights that training starts from: they arrive completely or are refused."""

import re
from collections.abc import Mapping

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import PretrainedInit, is_model_wrapper, update_init_info
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint
from torch import Tensor, nn

from mmkdfuse.checkpoint import list_mismatches
from mmkdfuse.models.probe import find_unreached
from mmkdfuse.registry import WEIGHT_INITIALIZERS


def load_start_weights(model: nn.Module, weights: Mapping[str, Tensor], name: str) -> list[str]:
    """Load a checkpoint of the model itself, or of its main network alone.

    The main network is what ``model.deployed()`` returns, a plain mmpretrain classifier with keys
    ``backbone.*`` and ``head.*``. A file with any key that only the whole model has must fit the
    whole model, another one the main network. Left at their initialisation, and reported, are
    the last layers of classifiers of another class count and, where the file holds the main
    network, all that this network does not depend on: branches, norms of shallow stages.

    Args:
        model: A classifier of this package.
        weights: Tensors by name; a leading ``module.`` is dropped.
        name: What is loaded, for messages, e.g. ``load_from='resnet50.pth'``.

    Returns:
        What was left at its initialisation, one sentence a fact.

    Raises:
        RuntimeError: Other keys are missing, unexpected or of another shape; all are named (ten
            of each kind).
    """
    weights = {re.sub(r'^module\.', '', key): value for key, value in weights.items()}
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
    """Loads ``load_from`` by :func:`load_start_weights`; a resume is left to the Runner.

    The Runner by itself drops every key that does not fit, without an error.
    """

    priority = 'VERY_HIGH'  # before hooks that use the checkpoint, such as EMAHook

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Load the weights and leave the model's own, complete, to the Runner and other hooks."""
        if runner._resume:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not hasattr(model, 'deployed'):
            return
        weights = checkpoint.get('state_dict', checkpoint)
        for fact in load_start_weights(model, weights, f'load_from={runner._load_from!r}'):
            runner.logger.info(fact)
        checkpoint['state_dict'] = model.state_dict()


@WEIGHT_INITIALIZERS.register_module(name='Pretrained')
class StrictPretrainedInit(PretrainedInit):
    """``init_cfg=dict(type='Pretrained', checkpoint=.., prefix=..)`` that does not fail silently.

    A whole classifier is loaded by :func:`load_start_weights`. In a part, such as the backbone, the
    file must hold every weight of two or more dimensions with its shape; norms of stages that the
    file's network did not expose may lack, and other keys of the file are not used.

    Args:
        checkpoint: File or address.
        prefix: Only the keys that start with it, e.g. ``'backbone'``.
        map_location: Device to read to.

    Raises:
        RuntimeError: Nothing has this prefix, or weights are missing or of another shape.
    """

    def __call__(self, module: nn.Module) -> None:
        checkpoint = _load_checkpoint(self.checkpoint, map_location=self.map_location)
        weights = checkpoint.get('state_dict', checkpoint)
        weights = {re.sub(r'^module\.', '', key): value for key, value in weights.items()}
        name = f"init_cfg of type 'Pretrained', checkpoint={self.checkpoint!r}"
        if self.prefix is not None:
            prefix = self.prefix.rstrip('.') + '.'
            found = {key.split('.')[0] for key in weights}
            weights = {
                k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)
            }
            if not weights:
                raise RuntimeError(
                    f'{name}: no key starts with prefix={self.prefix!r}; '
                    f'the keys start with {", ".join(sorted(found)[:10])}'
                )
        if hasattr(module, 'deployed'):
            facts = load_start_weights(module, weights, name)
        else:
            facts = self._load_part(module, weights, name)
        for fact in facts:
            print_log(fact, logger='current')
        if hasattr(module, '_params_init_info'):  # while mmengine keeps account of who set what
            update_init_info(module, init_info=self._get_init_info())

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
