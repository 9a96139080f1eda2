"""Check of a config without building anything: types, keywords, values, top-level keys."""

import difflib
import importlib
import importlib.util
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from mmengine import registry as mmengine_registry
from mmengine.runner import Priority, get_priority
from mmpretrain import registry as mmpretrain_registry

from mmkdfuse.engine.config_slots import (
    CLIPPING,
    CLOSED,
    EXTRA_VALUES,
    GROUPS,
    INNER,
    METRICS,
    MOVED,
    NETWORK_KEYS,
    NEVER_NONE,
    PLAIN,
    RUNNER_KEYS,
    TOP,
    TOP_VALUES,
    Slot,
    default_type,
    paramwise_cfg,
    ranges_of,
    resolves_networks,
)
from mmkdfuse.engine.error_text import sentence
from mmkdfuse.engine.signature import Keywords, keywords_of
from mmkdfuse.engine.value_check import describe, fits, numbers_below, reason_against, short
from mmkdfuse.models.networks import network_config, network_names


@dataclass(frozen=True)
class Argument:
    """A value of a config that a constructor gets.

    Attributes:
        path: Where it stands, ``'model.losses[0].tau'``.
        value: The value.
        owner: Name of the class or function that gets it.
        default: Default of the parameter, ``inspect.Parameter.empty`` where it has none.
        expected: What its annotation allows, in words; empty if it is not known.
    """

    path: str
    value: Any
    owner: str
    default: Any
    expected: str

    @property
    def key(self) -> str:
        """Name of the parameter."""
        return self.path.rpartition('.')[2]


def check_config(cfg: Any) -> list[str]:
    """Find every mistake of a config that shows without building anything.

    Args:
        cfg: An mmengine ``Config`` (or a dict of the same shape).

    Returns:
        One sentence per mistake with the path in the config, the wrong value and the nearest valid
        name or what is expected; empty if there is none.
    """
    return ConfigCheck(cfg).run()


# What these keys hold has no use for infinite numbers.
_FINITE = ('train_cfg', 'param_scheduler', 'data_preprocessor', 'optim_wrapper')
# Annotations of other packages are taken at their word only where they were seen to be right.
_TRUSTED = ('mmkdfuse.', 'mmengine.', 'torch.', 'mmpretrain.evaluation.')


class ConfigCheck:
    """Walk through a config that notes mistakes, and which constructor gets which value.

    Args:
        cfg: The config, which is not changed.

    Attributes:
        mistakes: Sentences.
        arguments: Values and who gets them.

    Example:
        >>> from mmengine.config import Config
        >>> check = ConfigCheck(Config(dict(randomness=dict(seed='no'))))
        >>> check.run()[-1]
        "`randomness.seed` = 'no': expected an integer from 0 to 4294967295 or None."
    """

    def __init__(self, cfg: Any):
        self.cfg = cfg
        self.mistakes: list[str] = []
        self.arguments: list[Argument] = []

    def run(self) -> list[str]:
        """Check everything; return the mistakes."""
        self._import_modules()
        if not (self._check_scope() and self._check_shapes()):
            return self.mistakes
        self._check_numbers()
        self._check_top_level()
        scope = self.cfg.get('default_scope') or 'mmengine'
        for key, slot in TOP.items():
            if self.cfg.get(key) is not None:
                self._walk(key, self.cfg[key], self._fit(key, slot), scope)
        self._doubt_scope(scope)
        return self.mistakes

    def _doubt_scope(self, scope: str) -> None:
        """Say that types may be looked up in the wrong place where many are not found."""
        unknown = sum('.type`' in m and ': not a registered ' in m for m in self.mistakes)
        if unknown > 3 and scope != 'mmkdfuse':
            reason = (
                f"{unknown} types are not found from there, those of this package from 'mmkdfuse'"
            )
            self.mistakes.insert(0, f'`default_scope` = {scope!r}: {reason}.')

    def _report(self, path: str, value: Any, reason: str) -> None:
        self.mistakes.append(f'`{path}` = {short(value)}: {reason}.')

    def _import_modules(self) -> None:
        imports = self.cfg.get('custom_imports')
        if not isinstance(imports, dict):
            return
        for index, module in enumerate(_as_list(imports.get('imports', []))):
            try:
                importlib.import_module(module)
            except Exception as error:
                if not imports.get('allow_failed_imports', False):
                    reason = f'cannot be imported, {sentence(error)}'
                    self._report(f'custom_imports.imports[{index}]', module, reason)

    def _check_scope(self) -> bool:
        """Whether the scope is a package; in another one no name would be found."""
        scope = self.cfg.get('default_scope') or 'mmengine'
        known = {'mmengine', *mmengine_registry.MODELS.children, *_OWN_SCOPES}
        try:
            found = scope in known or importlib.util.find_spec(scope) is not None
        except Exception:  # no name of a package at all
            found = False
        if not found:
            self._report('default_scope', scope, f'no such package{nearest(scope, known)}')
        return found

    def _check_shapes(self) -> bool:
        """Check the kinds of top-level values; what is inside of a wrong one cannot be judged."""
        wrong = len(self.mistakes)
        for key, annotation in TOP_VALUES.items():
            value = self.cfg.get(key)
            if value is None and not (key in NEVER_NONE and key in self.cfg):
                continue
            if value is not None and not isinstance(value, _WRITTEN):
                continue  # an object that the Runner takes as it is
            if not fits(value, annotation, strict=False):
                self._report(key, value, f'expected {describe(annotation)}')
        hooks = self.cfg.get('default_hooks')
        for key, hook in hooks.items() if isinstance(hooks, dict) else ():
            if isinstance(hook, _WRITTEN) and not isinstance(hook, dict):
                self._report(f'default_hooks.{key}', hook, 'expected a dict, or None for no hook')
        return len(self.mistakes) == wrong

    def _check_numbers(self) -> None:
        """Report every NaN, and infinite numbers where they make no sense."""
        for key in TOP:
            wrong: dict[str, tuple[Any, str]] = {}
            for path, value, number in numbers_below(key, self.cfg.get(key)):
                if math.isnan(number):
                    wrong[path] = value, 'not a number'
                elif math.isinf(number) and key in _FINITE and '.clip_grad.' not in path:
                    wrong[path] = value, 'expected a finite number'
            for path, (value, reason) in wrong.items():
                self._report(path, value, reason)

    def _check_top_level(self) -> None:
        optimizer = (self.cfg.get('optim_wrapper') or {}).get('optimizer')
        for key in self.cfg.keys():
            value = self.cfg[key]
            if key == 'optimizer' and value == optimizer or value is None:
                continue  # a variable of the config file
            if key in MOVED:
                self._report(key, value, f'ignored by the Runner, belongs in {MOVED[key]}')
            elif key not in RUNNER_KEYS:
                near = difflib.get_close_matches(key, RUNNER_KEYS, n=1, cutoff=0.85)
                if near:
                    self._report(key, value, f'not a key of the Runner{nearest(key, near)}')
        if self.cfg.get('model') is None:
            self.mistakes.append('`model` is missing: it holds the network to train.')
        for group in GROUPS:
            there = [key for key in group if self.cfg.get(key) is not None]
            for key in set(group) - set(there) if there else ():
                self.mistakes.append(f'`{key}` is missing: {" and ".join(there)} need it.')

    def _fit(self, key: str, slot: Slot) -> Slot:
        """Adapt a slot to the alternatives that the Runner offers for its key."""
        node = self.cfg[key]
        if key == 'train_cfg' and 'type' not in node:
            if 'by_epoch' not in node:
                self._report(key, node, 'needs either `by_epoch` or `type`')
            unit = 'Epoch' if node.get('by_epoch', True) else 'Iter'
            return replace(slot, default=f'{unit}BasedTrainLoop')
        if key == 'train_cfg' and 'by_epoch' in node:
            self._report('train_cfg.by_epoch', node['by_epoch'], 'cannot stand beside `type`')
        if key == 'optim_wrapper' and 'constructor' not in node:
            path = 'optim_wrapper.paramwise_cfg'
            self._walk(path, node.get('paramwise_cfg'), Slot(None, paramwise_cfg), 'mmengine')
        if slot is METRICS and isinstance(node, dict) and 'metrics' in node:
            return Slot('EVALUATOR', 'Evaluator')
        return slot

    def _walk(self, path: str, node: Any, slot: Slot, scope: str) -> None:
        """Check a node and everything in it against its slot."""
        if isinstance(node, (list, tuple)):
            for index, item in enumerate(node):
                self._walk(f'{path}[{index}]', item, slot, scope)
        told = any(known.startswith(f'`{path}` = ') for known in self.mistakes)
        if slot.typed and isinstance(node, str | Real) and not told:
            self._report(path, node, 'expected a dict with `type`')
        if not isinstance(node, dict) or slot is PLAIN:
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
        elif slot.typed and not all(
            item is None or isinstance(item, dict | list) or not isinstance(item, _WRITTEN)
            for item in node.values()
        ):
            self._report(path, dict(node), f'`type` is missing{self._hook_meant(path)}')
            slot = Slot(slot.kind)
        if target is not None:
            keywords = keywords_of(target)
            self._check_keywords(path, node, target, keywords, slot)
            self._check_values(path, node, target, keywords, slot)
        elif kind_of_type is not None:
            slot = Slot(slot.kind)
        for key, value in node.items():
            self._walk_argument(f'{path}.{key}', key, value, (slot, target, keywords), scope)

    def _walk_argument(self, path: str, key: str, value: Any, parent: tuple, scope: str) -> None:
        slot, target, keywords = parent
        ours = resolves_networks(target)
        if key in NETWORK_KEYS and ours:
            if isinstance(value, (list, tuple)):  # several teachers
                for index, item in enumerate(value):
                    self._walk_argument(f'{path}[{index}]', key, item, parent, scope)
                return
            if isinstance(value, str) or _is_named(value):
                self._check_network(path, value, INNER.get(key, Slot('MODELS')).extra, scope)
                return
        if key == 'clip_grad' and isinstance(value, dict):
            self._check_clipping(path, value, scope)
            return
        if key == 'constructor' and isinstance(value, str):
            self._resolve(path, value, Slot('OPTIM_WRAPPER_CONSTRUCTORS'), scope, suffix='')
            return
        if target is None:  # a plain dict or a dict of components: the same slot goes on
            inner = INNER.get(key, slot)
        else:
            # A class of ours fills in what it probes; others get every keyword from the config.
            inner = INNER.get(key, Slot(slot.kind, complete=key in NETWORK_KEYS and not ours))
        if keywords is not None and isinstance(value, dict) and 'type' not in value:
            default = keywords.defaults.get(key)
            default = default.get('type') if isinstance(default, dict) else None
            default = default or (default_type(target, key) if ours else None)
            inner = replace(inner, default=default or inner.default)
        self._walk(path, value, inner, scope)

    def _check_network(self, path: str, value: Any, extra: tuple[str, ...], scope: str) -> None:
        """Check a network's name and the changes beside it; ``extra``: keys that are no changes."""
        name = value if isinstance(value, str) else value['arch']
        if isinstance(name, str) and name.endswith('.py'):
            return
        if name not in network_names():
            path = path if isinstance(value, str) else f'{path}.arch'
            self._report(path, name, f'not a known network{nearest(name, network_names())}')
        elif isinstance(value, dict):
            backbone = network_config(name)['backbone']
            backbone.update({k: v for k, v in value.items() if k != 'arch'})
            self._walk(path, backbone, Slot('MODELS', complete=True, extra=extra), scope)

    def _resolve(
        self, path: str, name: str, slot: Slot, scope: str, suffix: str = '.type'
    ) -> Callable | None:
        kind = slot.kind or ''
        root = getattr(mmengine_registry, kind, None) or getattr(mmpretrain_registry, kind)
        # The Runner looks functions up in the root registry, whatever the scope.
        scope = 'mmengine' if kind == 'FUNCTIONS' else scope
        with root.switch_scope_and_registry(scope) as registry:
            try:
                target = registry.get(name)
            except (RuntimeError, ImportError):
                target = None
            names = set()
            while registry is not None:
                names |= set(registry.module_dict)
                registry = registry.parent
        if target is None:
            near = matches(name.rpartition('.')[2], names)
            reason = f'not a registered {root.name}{nearest(name, near, cutoff=0)}'
            self._report(f'{path}{suffix}', name, reason)
        return target

    def _check_keywords(
        self, path: str, node: dict, target: Callable, keywords: Keywords, slot: Slot
    ) -> None:
        name = getattr(target, '__name__', str(target)).lstrip('_')
        accepted = {*keywords.defaults, *slot.extra} - {'self'}
        for key in set(node) - accepted - {'type', '_scope_'}:
            # Where any keyword passes, only one that is all but a known one is a mistake.
            if keywords.accepts_any and not (
                matches(key, accepted - set(node), cutoff=0.85)
                or matches(key, accepted, cutoff=0.92)
                or (inspect.isclass(target) and issubclass(target, CLOSED))
            ):
                continue
            reason = f'{name} has no such argument{nearest(key, accepted)}'
            self._report(f'{path}.{key}', node[key], reason)
        for key in keywords.required if slot.complete else ():
            if key not in node and key not in slot.given:
                self.mistakes.append(f'`{path}.{key}` is missing: {name} requires it.')

    def _check_values(
        self, path: str, node: dict, target: Callable, keywords: Keywords, slot: Slot
    ) -> None:
        """Check the values of keywords by annotations and ranges, and note them."""
        name = getattr(target, '__name__', str(target)).lstrip('_')
        ranges = ranges_of(target)
        for key, value in node.items():
            extra = key in slot.extra and key in EXTRA_VALUES
            if key in ('type', '_scope_') or not (extra or key in keywords.defaults):
                continue
            default = keywords.defaults.get(key, inspect.Parameter.empty)
            annotation = keywords.annotations.get(key, inspect.Parameter.empty)
            owner = keywords.owners.get(key, '')
            if extra:
                annotation = EXTRA_VALUES[key]
            elif not f'{owner}.'.startswith(_TRUSTED) and annotation is not bool:
                annotation = inspect.Parameter.empty
            reason = reason_against(value, annotation, default, owner.startswith('mmkdfuse.'))
            if extra and key == 'priority' and not reason:
                reason = _reason_against_priority(value)
            if not reason and key in ranges:
                reason = reason_against(value, ranges[key], default)
            told = any(known.startswith(f'`{path}.{key}') for known in self.mistakes)
            if reason and not told:
                self._report(f'{path}.{key}', value, reason)
            annotation = ranges.get(key, annotation)
            expected = '' if annotation is inspect.Parameter.empty else describe(annotation)
            self.arguments.append(Argument(f'{path}.{key}', value, name, default, expected))

    def _check_clipping(self, path: str, node: dict, scope: str) -> None:
        kind = node.get('type', 'norm')
        if kind not in CLIPPING:
            names = ' or '.join(map(repr, CLIPPING))
            self._report(f'{path}.type', kind, f'expected {names}')
            return
        rest = {key: value for key, value in node.items() if key != 'type'}
        self._walk(path, rest, Slot(None, CLIPPING[str(kind)], complete=True), scope)

    def _hook_meant(self, path: str) -> str:
        """End of a sentence with the default hook that a key may have meant."""
        parent, _, key = path.rpartition('.')
        if parent != 'default_hooks':
            return ''
        near = matches(key, set(self.cfg.default_hooks) - {key} | _UPSTREAM_HOOKS, cutoff=0.75)
        return nearest(key, near) if near else ''


def _reason_against_priority(value: Any) -> str:
    try:
        get_priority(value)
    except (KeyError, TypeError, ValueError):
        names = ', '.join(priority.name for priority in Priority)
        return f'expected an integer from 0 to 100 or one of {names}'
    return ''


_UPSTREAM_HOOKS = {
    *('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
}
_OWN_SCOPES = ('mmkdfuse', 'mmpretrain', 'mmcv')
# What can be written in a file; everything else is an object that was built already.
_WRITTEN = (str, bytes, bool, Real, list, tuple, set, Mapping)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and 'type' not in value and 'arch' in value


def _as_list(value: Any) -> list:
    return [value] if isinstance(value, str) else list(value)


def matches(name: str, names: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """Return the name most similar to ``name`` in a list, empty where none is."""
    lower, wanted = {n.lower(): n for n in names}, name.lower()
    # `fuse_mode` is `fuse` with an addition, whatever else looks alike.
    stems = sorted((n for n in lower if wanted.startswith(f'{n}_')), key=len)
    near = stems[-1:] or difflib.get_close_matches(wanted, lower, n=1, cutoff=cutoff)
    return [lower[match] for match in near]


def nearest(name: Any, names: Iterable[str], cutoff: float = 0.5) -> str:
    """Return the end of a sentence that gives the valid name most similar to ``name``."""
    names = sorted(names)
    near = matches(str(name), names, cutoff)
    if near:
        return f'; nearest valid name: {near[0]!r}'
    return f'; valid names: {", ".join(names)}' if 0 < len(names) <= 20 else ''
