"""Check of a config without building anything: types, keywords, top-level keys."""

import difflib
import importlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from mmengine import registry as mmengine_registry
from mmpretrain import registry as mmpretrain_registry

from mmkdfuse.engine.config_slots import (
    GROUPS,
    INNER,
    METRICS,
    MOVED,
    NETWORK_KEYS,
    PLAIN,
    RUNNER_KEYS,
    TOP,
    Slot,
    default_type,
    paramwise_cfg,
    resolves_networks,
)
from mmkdfuse.engine.signature import Keywords, keywords_of
from mmkdfuse.models.networks import network_config, network_names


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
        for key, slot in TOP.items():
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
        elif slot.typed and not all(isinstance(item, (dict, list)) for item in node.values()):
            self._report(path, dict(node), '`type` is missing')
            slot = Slot(slot.kind)
        if target is not None:
            keywords = keywords_of(target)
            self._check_keywords(path, node, target, keywords, slot)
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
            if keywords.accepts_any and not matches(key, accepted - set(node), cutoff=0.85):
                continue
            reason = f'{name} has no such argument{nearest(key, accepted)}'
            self._report(f'{path}.{key}', node[key], reason)
        for key in keywords.required if slot.complete else ():
            if key not in node and key not in slot.given:
                self.mistakes.append(f'`{path}.{key}` is missing: {name} requires it.')


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


def _short(value: Any, width: int = 80) -> str:
    text = repr(value.to_dict() if hasattr(value, 'to_dict') else value)
    return text if len(text) <= width else f'{text[: width - 3]}...'


def sentence(error: BaseException) -> str:
    """Return an error's message on one line, without its full stop."""
    # str() of a KeyError is the repr of its message.
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    text = ' '.join(str(text).split()) or type(error).__name__
    return text.rstrip('.')
