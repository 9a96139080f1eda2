"""Check of a config without building anything: types, keywords, names of networks, top-level keys."""

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from mmengine import registry as mmengine_registry
from mmengine.runner import Runner
from mmpretrain import registry as mmpretrain_registry
from torch.utils.data import DataLoader

from mmkdfuse.engine.signature import Keywords, keywords_of
from mmkdfuse.models.networks import network_config, network_names


@dataclass(frozen=True)
class Slot:
    """A place in the config that holds a component (or a list or dict of them).

    Attributes:
        kind: Name of the registry its ``type`` belongs to; None: not a component.
        default: What is built where ``type`` is absent: a registered name or a callable.
        typed: True if ``type`` must be there.
        complete: True if every keyword without default must be there.
        given: Keywords the surroundings fill in: not required.
        extra: Keywords the surroundings take out before the constructor is called.
    """

    kind: str | None
    default: str | Callable | None = None
    typed: bool = False
    complete: bool = False
    given: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


def _env_cfg(cudnn_benchmark=False, mp_cfg=None, dist_cfg=None, resource_limit=4096):
    """Signature of ``env_cfg``, which mmengine reads key by key."""


def _auto_scale_lr(base_batch_size, enable=False):
    """Signature of ``auto_scale_lr``, which mmengine reads key by key."""


def _paramwise_cfg(
    lr_mult=1.0,
    decay_mult=1.0,
    bias_lr_mult=1.0,
    bias_decay_mult=1.0,
    norm_decay_mult=1.0,
    flat_decay_mult=1.0,
    dwconv_decay_mult=1.0,
    dcn_offset_lr_mult=1.0,
    bypass_duplicate=False,
    custom_keys=None,
):
    """Signature of ``paramwise_cfg``, which the default constructor reads key by key."""


_PLAIN = Slot(None)  # a `type` in there is no component
_LOADER = Slot(
    None,
    DataLoader,
    complete=True,
    extra=('num_batch_per_epoch', 'worker_init_fn', 'disable_subprocess_warning'),
)
_LOOP = Slot('LOOPS', complete=True, given=('runner', 'dataloader', 'evaluator'))
_METRICS = Slot('METRICS', typed=True, complete=True)
_HOOKS = Slot('HOOKS', typed=True, complete=True, extra=('priority',))

# Top-level keys that hold components.
_TOP = {
    'model': Slot('MODELS', typed=True, complete=True),
    'data_preprocessor': Slot('MODELS', 'mmpretrain.ClsDataPreprocessor'),
    'tta_model': Slot('MODELS', typed=True, given=('module',)),
    'model_wrapper_cfg': Slot('MODEL_WRAPPERS', 'MMDistributedDataParallel', given=('module',)),
    'train_dataloader': _LOADER,
    'val_dataloader': _LOADER,
    'test_dataloader': _LOADER,
    'train_cfg': replace(_LOOP, extra=('by_epoch',)),
    'val_cfg': replace(_LOOP, default='ValLoop'),
    'test_cfg': replace(_LOOP, default='TestLoop'),
    'val_evaluator': _METRICS,
    'test_evaluator': _METRICS,
    'optim_wrapper': Slot(
        'OPTIM_WRAPPERS', 'OptimWrapper', given=('optimizer',), extra=('constructor', 'paramwise_cfg')
    ),
    'param_scheduler': Slot(
        'PARAM_SCHEDULERS',
        typed=True,
        complete=True,
        given=('optimizer',),
        extra=('convert_to_iter_based', 'epoch_length'),
    ),
    'default_hooks': _HOOKS,
    'custom_hooks': _HOOKS,
    'log_processor': Slot('LOG_PROCESSORS', 'LogProcessor'),
    'visualizer': Slot('VISUALIZERS', 'Visualizer', given=('name',)),
    'vis_backends': Slot('VISBACKENDS', typed=True),
    'tta_pipeline': Slot('TRANSFORMS', typed=True),
    'randomness': Slot(None, Runner.set_randomness, complete=True, given=('self',)),
    'env_cfg': Slot(None, _env_cfg),
    'auto_scale_lr': Slot(None, _auto_scale_lr, complete=True),
}

# Keywords that hold components of another registry than the component they stand in.
_INNER = {
    'dataset': Slot('DATASETS', typed=True, complete=True),
    'sampler': Slot('DATA_SAMPLERS', typed=True, given=('dataset',), complete=True),
    'batch_sampler': Slot('DATA_SAMPLERS', typed=True, given=('sampler', 'batch_size')),
    'collate_fn': Slot('FUNCTIONS', typed=True),
    'worker_init_fn': Slot('FUNCTIONS', typed=True),
    'pipeline': Slot('TRANSFORMS', typed=True, complete=True),
    'transforms': Slot('TRANSFORMS', complete=True),
    'policies': Slot('TRANSFORMS', extra=('magnitude_key', 'magnitude_range')),
    'metrics': _METRICS,
    'optimizer': Slot('OPTIMIZERS', typed=True, given=('params',), complete=True),
    'clip_grad': _PLAIN,
    'targets': _PLAIN,
    'vis_backends': Slot('VISBACKENDS', typed=True),
    'data_preprocessor': Slot('MODELS'),
    'augments': Slot('BATCH_AUGMENTS', typed=True, complete=True),
    'tokenizer': Slot('TOKENIZER'),
    'init_cfg': Slot('WEIGHT_INITIALIZERS', extra=('override', 'layer')),
    'override': Slot('WEIGHT_INITIALIZERS', extra=('name',)),
    'norm_cfg': Slot('MODELS', extra=('requires_grad',)),
    'act_cfg': Slot('MODELS', extra=('inplace',)),
}
_NETWORK_KEYS = ('backbone', 'student', 'teacher')
# What a class of ours builds where `type` is absent and its signature does not say.
_DEFAULT_TYPES = {
    'neck': 'KFMNeck',
    'head': 'LinearClsHead',
    'data_preprocessor': 'mmpretrain.ClsDataPreprocessor',
}

# Old OpenMMLab keys, which the Runner ignores.
_MOVED = {
    'data': 'train_dataloader, val_dataloader and test_dataloader',
    'optimizer': 'optim_wrapper.optimizer',
    'optimizer_config': 'optim_wrapper.clip_grad',
    'lr_config': 'param_scheduler',
    'evaluation': 'val_evaluator and train_cfg.val_interval',
    'runner': 'train_cfg',
    'total_epochs': 'train_cfg.max_epochs',
    'checkpoint_config': 'default_hooks.checkpoint',
    'log_config': 'default_hooks.logger',
    'fp16': "optim_wrapper.type='AmpOptimWrapper'",
    'dist_params': 'env_cfg.dist_cfg',
    'resume_from': 'load_from together with resume=True',
    'seed': 'randomness.seed',
    'workflow': 'train_cfg and val_cfg',
}
_RUNNER_KEYS = {
    *inspect.signature(Runner.__init__).parameters,
    *_TOP,
    *('custom_imports', 'sync_bn', 'find_unused_parameters', 'compile', 'runner_type'),
} - {'self', 'cfg', 'tta_pipeline'}
_GROUPS = (
    ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    ('val_dataloader', 'val_cfg', 'val_evaluator'),
    ('test_dataloader', 'test_cfg', 'test_evaluator'),
)


def check_config(cfg: Any) -> list[str]:
    """Find every mistake of a config that shows without building anything.

    Args:
        cfg: An mmengine ``Config`` (or a dict of the same shape).

    Returns:
        One sentence per mistake with the path in the config, the wrong value and the nearest valid
        name; empty if there is none.
    """
    return _ConfigCheck(cfg).run()


class _ConfigCheck:
    def __init__(self, cfg: Any):
        self.cfg = cfg
        self.mistakes: list[str] = []

    def run(self) -> list[str]:
        self._import_modules()
        self._check_top_level()
        scope = self.cfg.get('default_scope') or 'mmengine'
        for key, slot in _TOP.items():
            if self.cfg.get(key) is not None:
                self._walk(key, self.cfg[key], self._fit(key, slot), scope)
        return self.mistakes

    def _report(self, path: str, value: Any, reason: str) -> None:
        self.mistakes.append(f'`{path}` = {_short(value)}: {reason}.')

    def _import_modules(self) -> None:
        imports = self.cfg.get('custom_imports') or {}
        for index, module in enumerate(_as_list(imports.get('imports', []))):
            try:
                importlib.import_module(module)
            except Exception as error:
                if not imports.get('allow_failed_imports', False):
                    reason = f'cannot be imported, {sentence(error)}'
                    self._report(f'custom_imports.imports[{index}]', module, reason)

    def _check_top_level(self) -> None:
        optimizer = (self.cfg.get('optim_wrapper') or {}).get('optimizer')
        for key in self.cfg.keys():
            value = self.cfg[key]
            if key in _MOVED and value is not None and not (key == 'optimizer' and value == optimizer):
                self._report(key, value, f'ignored by the Runner, belongs in {_MOVED[key]}')
            elif key not in _RUNNER_KEYS:
                near = difflib.get_close_matches(key, _RUNNER_KEYS, n=1, cutoff=0.85)
                if near:
                    self._report(key, value, f'not a key of the Runner{nearest(key, near)}')
        if self.cfg.get('model') is None:
            self.mistakes.append('`model` is missing: it holds the network to train.')
        for group in _GROUPS:
            there = [key for key in group if self.cfg.get(key) is not None]
            for key in set(group) - set(there) if there else ():
                self.mistakes.append(f'`{key}` is missing: {" and ".join(there)} need it.')

    def _fit(self, key: str, slot: Slot) -> Slot:
        """Adapt a slot to the alternatives that the Runner offers for its key."""
        node = self.cfg[key]
        if key == 'train_cfg' and 'type' not in node:
            if 'by_epoch' not in node:
                self._report(key, node, 'needs either `by_epoch` or `type`')
            by_epoch = node.get('by_epoch', True)
            return replace(slot, default='EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop')
        if key == 'train_cfg' and 'by_epoch' in node:
            self._report('train_cfg.by_epoch', node['by_epoch'], 'only one of `type` and it is legal')
        if key == 'optim_wrapper' and 'constructor' not in node:
            paramwise = node.get('paramwise_cfg')
            self._walk('optim_wrapper.paramwise_cfg', paramwise, Slot(None, _paramwise_cfg), '')
        if slot is _METRICS and isinstance(node, dict) and 'metrics' in node:
            return Slot('EVALUATOR', 'Evaluator')
        return slot

    def _walk(self, path: str, node: Any, slot: Slot, scope: str) -> None:
        """Check a node and everything in it; ``slot`` says what it should be."""
        if isinstance(node, (list, tuple)):
            for index, item in enumerate(node):
                self._walk(f'{path}[{index}]', item, slot, scope)
        if not isinstance(node, dict) or slot is _PLAIN:
            return
        scope = node.get('_scope_') or scope
        kind_of_type = node.get('type', slot.default)
        target = keywords = None
        if isinstance(kind_of_type, str) and slot.kind:
            target = self._resolve(path, kind_of_type, slot, scope)
        elif callable(kind_of_type):
            target = kind_of_type
        elif kind_of_type is not None:
            self._report(f'{path}.type', kind_of_type, 'a registered name is expected')
        elif slot.typed and not all(isinstance(item, (dict, list)) for item in node.values()):
            self._report(path, dict(node), '`type` is missing')
        if target is not None:
            keywords = keywords_of(target)
            self._check_keywords(path, node, target, keywords, slot)
        if kind_of_type is not None and target is None:
            slot = Slot(slot.kind)
        for key, value in node.items():
            self._walk_argument(f'{path}.{key}', key, value, (slot, target, keywords), scope)

    def _walk_argument(self, path: str, key: str, value: Any, parent: tuple, scope: str) -> None:
        slot, target, keywords = parent
        ours = getattr(target, '__module__', '').startswith('mmkdfuse')
        if key in _NETWORK_KEYS and ours and (isinstance(value, str) or _is_named(value)):
            self._check_network(path, value, scope)
            return
        if key == 'constructor' and isinstance(value, str):
            self._resolve(path, value, Slot('OPTIM_WRAPPER_CONSTRUCTORS'), scope, suffix='')
            return
        if target is None:  # a plain dict or a dict of components: the same slot goes on
            inner = _INNER.get(key, slot)
        else:
            # A class of ours fills in what it probes; others get every keyword from the config.
            inner = _INNER.get(key, Slot(slot.kind, complete=key in _NETWORK_KEYS and not ours))
        if keywords is not None and isinstance(value, dict) and 'type' not in value:
            default = keywords.defaults.get(key)
            default = default.get('type') if isinstance(default, dict) else None
            default = default or (_DEFAULT_TYPES.get(key) if ours else None)
            inner = replace(inner, default=default or inner.default)
        self._walk(path, value, inner, scope)

    def _check_network(self, path: str, value: Any, scope: str) -> None:
        name = value if isinstance(value, str) else value['arch']
        if isinstance(name, str) and name.endswith('.py'):
            return
        if name not in network_names():
            path = path if isinstance(value, str) else f'{path}.arch'
            self._report(path, name, f'not a known network{nearest(name, network_names())}')
        elif isinstance(value, dict):
            backbone = network_config(name)['backbone']
            backbone.update({k: v for k, v in value.items() if k not in ('arch', 'checkpoint')})
            self._walk(path, backbone, Slot('MODELS', complete=True), scope)

    def _resolve(
        self, path: str, name: str, slot: Slot, scope: str, suffix: str = '.type'
    ) -> Callable | None:
        kind = slot.kind or ''
        root = getattr(mmengine_registry, kind, None) or getattr(mmpretrain_registry, kind)
        # Functions are looked up by the Runner in the root registry, whatever the scope.
        with root.switch_scope_and_registry('mmengine' if kind == 'FUNCTIONS' else scope) as registry:
            try:
                target = registry.get(name)
            except (RuntimeError, ImportError):
                target = None
            names = set()
            while registry is not None:
                names |= set(registry.module_dict)
                registry = registry.parent
        if target is None:
            near = _matches(name.rpartition('.')[2], names)
            reason = f'not a registered {root.name}{nearest(name, near, cutoff=0)}'
            self._report(f'{path}{suffix}', name, reason)
        return target

    def _check_keywords(
        self, path: str, node: dict, target: Callable, keywords: Keywords, slot: Slot
    ) -> None:
        name = getattr(target, '__name__', str(target))
        accepted = {*keywords.defaults, *slot.extra} - {'self'}
        if not keywords.accepts_any:
            for key in node:
                if key not in accepted and key not in ('type', '_scope_'):
                    reason = f'{name} has no such argument{nearest(key, accepted)}'
                    self._report(f'{path}.{key}', node[key], reason)
        for key in keywords.required if slot.complete else ():
            if key not in node and key not in slot.given:
                self.mistakes.append(f'`{path}.{key}` is missing: {name} requires it.')


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and 'type' not in value and 'arch' in value


def _as_list(value: Any) -> list:
    return [value] if isinstance(value, str) else list(value)


def _matches(name: str, names: Iterable[str], cutoff: float = 0.6) -> list[str]:
    lower = {n.lower(): n for n in names}
    return [lower[m] for m in difflib.get_close_matches(name.lower(), lower, n=1, cutoff=cutoff)]


def nearest(name: Any, names: Iterable[str], cutoff: float = 0.5) -> str:
    """Return the end of a sentence that gives the valid name most similar to ``name``."""
    names = sorted(names)
    near = _matches(str(name), names, cutoff)
    if near:
        return f'; nearest valid name: {near[0]!r}'
    return f'; valid names: {", ".join(names)}' if 0 < len(names) <= 20 else ''


def _short(value: Any, width: int = 80) -> str:
    text = repr(value.to_dict() if hasattr(value, 'to_dict') else value)
    return text if len(text) <= width else f'{text[: width - 3]}...'


def sentence(error: BaseException) -> str:
    """Return an error's message on one line, without its full stop."""
    # str() of a KeyError is the repr of its message.
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    text = ' '.join(str(text).split()) or type(error).__name__
    return text.rstrip('.')
