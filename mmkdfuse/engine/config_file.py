"""Config files and changes to them, every mistake one sentence."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.config import Config

from mmkdfuse.engine.error_text import sentence
from mmkdfuse.engine.value_check import short


class ConfigError(ValueError):
    """All mistakes of a config, one sentence and one line each.

    Attributes:
        mistakes: The sentences.

    Example:
        >>> ConfigError(['`a` = 1: wrong.', '`b` = 2: wrong.']).mistakes[1]
        '`b` = 2: wrong.'
    """

    def __init__(self, mistakes: Sequence[str]):
        self.mistakes = list(mistakes)
        super().__init__('\n'.join(self.mistakes))


def read_config(
    path: str, cfg_options: dict | None = None, import_custom_modules: bool = False
) -> Config:
    """Read a config file and apply changes to it.

    Args:
        path: Of the file.
        cfg_options: Changes with dotted keys.
        import_custom_modules: Import what ``custom_imports`` names. The check does it too, and
            reports every module that fails.

    Raises:
        ConfigError: If the file or one of its bases cannot be read or a change does not fit.
    """
    try:
        cfg = Config.fromfile(path, import_custom_modules=import_custom_modules)
    except Exception as error:
        reason = f'{type(error).__name__}: {sentence(error)}'
        raise ConfigError([f'`{path}` cannot be read as a config: {reason}.']) from error
    merge_changes(cfg, cfg_options)
    return cfg


def with_plain_values(node: Any) -> Any:
    """Return a nested config, or a copy, in which numbers of numpy are Python's.

    Configs are written to files, and ``np.int64(3)`` cannot be read back.
    """
    if isinstance(node, dict):
        for key, value in node.items():
            node[key] = with_plain_values(value)
    elif isinstance(node, list | tuple) and type(node) in (list, tuple):
        return type(node)(map(with_plain_values, node))
    return node.item() if isinstance(node, np.generic) else node


def merge_changes(cfg: Config, changes: Mapping[str, Any] | None) -> None:
    """Merge changes with dotted keys, or nested ones, into a config.

    Raises:
        ConfigError: If a change does not fit; it names the key.
    """
    changes = dict(changes or {})
    mistakes = [
        f'`{key}` = {short(value)}: the key has an empty part, expected names with one dot between '
        'them, such as `model.num_classes`.'
        for key, value in changes.items()
        if not all(part.strip() for part in str(key).split('.'))
    ]
    if mistakes:
        raise ConfigError(mistakes)
    try:
        # mmengine takes `_delete_` out of what it merges.
        cfg.merge_from_dict(copy.deepcopy(changes))
    except Exception as error:
        raise ConfigError(_misfits(cfg, changes, error)) from error


def _misfits(cfg: Config, changes: dict[str, Any], error: Exception) -> list[str]:
    """One sentence for every change that cannot be merged alone."""
    found = []
    for key, value in changes.items():
        try:
            copy.deepcopy(cfg).merge_from_dict({key: copy.deepcopy(value)})
        except Exception as alone:
            found.append(f'`{key}` = {short(value)}: cannot be merged, {_reason(alone)}.')
    return found or [f'the changes {short(changes)} cannot be merged: {_reason(error)}.']


def _reason(error: Exception) -> str:
    text = sentence(error)
    if isinstance(error, KeyError) and text.startswith('Index '):
        return f'{" ".join(text.split()[:2]).lower()} is beyond the end of the list'
    return (
        text if isinstance(error, TypeError | KeyError) and len(text) < 200 else 'it does not fit'
    )
