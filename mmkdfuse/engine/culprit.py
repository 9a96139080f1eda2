"""Search for the value of a config behind an error."""

import copy
import os
import re
import time
from collections.abc import Callable, Iterable
from inspect import Parameter
from typing import Any

from mmengine.config import Config

from mmkdfuse.engine.config_check import Argument
from mmkdfuse.engine.error_text import NO_MEMORY, readable, whereabouts
from mmkdfuse.engine.value_check import short


class CulpritSearch:
    """Blame an error on the value without which it does not happen.

    Values are taken out of the config one by one, so that their defaults count, and what failed is
    tried again. An error that names key and value itself needs no search.

    Args:
        arguments: Values of the config and who gets them.
        seconds: Time for all searches together.

    Example:
        >>> cfg = Config(dict(net=dict(width=-1, depth=2)))
        >>> def build(cfg):
        ...     if cfg.net.get('width', 8) < 0:
        ...         raise ValueError('sides are positive')
        >>> arguments = [Argument(f'net.{k}', v, 'Net', 8, '') for k, v in cfg.net.items()]
        >>> error = ValueError('sides are positive')
        >>> CulpritSearch(arguments).explain(cfg, 'net', ['net'], build, error)
        '`net.width` = -1: sides are positive.'
    """

    def __init__(self, arguments: Iterable[Argument], seconds: float = 20.0) -> None:
        self.arguments = list(arguments)
        self.seconds = seconds

    def explain(
        self,
        cfg: Config,
        path: str,
        sections: Iterable[str],
        attempt: Callable[[Config], Any],
        error: Exception,
    ) -> str:
        """Return a sentence about an error.

        Args:
            cfg: The config with which something failed.
            path: What failed, for errors that no single value causes.
            sections: Keys of the config that what failed depends on.
            attempt: What failed; it raises if it fails again.
            error: How it failed.
        """
        cause = error.__cause__
        text = readable(error) if cause is None or readable(cause) else ''
        culprit = None
        concerned = [a for a in self.arguments if _is_below(a.path, sections)]
        if text == NO_MEMORY:
            culprit = max(concerned, key=lambda a: _largest(a.value), default=None)
        elif any(_is_path_in(a.value, text) for a in concerned):
            culprit = next(a for a in concerned if _is_path_in(a.value, text))
        elif isinstance(error, OSError):
            pass  # of the machine
        elif cause or not _names_value(text, concerned):
            culprit = self._find(cfg, concerned, attempt, str(error))
        if culprit is None:
            return f'`{path}`: {text or "fails, " + whereabouts(error)}.'
        reason = text or f'{culprit.owner} fails with it'
        if culprit.expected and not text:
            reason += f', expected {culprit.expected}'
        elif not text and culprit.default is not Parameter.empty:
            reason += f', its default is {short(culprit.default)}'
        return f'`{culprit.path}` = {short(culprit.value)}: {reason}.'

    def _find(
        self, cfg: Config, arguments: list[Argument], attempt: Callable, text: str
    ) -> Argument | None:
        removable = [a for a in arguments if a.default is not Parameter.empty]
        removable = [a for a in removable if not _equal(a.value, a.default)]
        # The likeliest first: one that the message speaks of.
        removable.sort(key=lambda a: (a.key not in text, str(a.value) not in text, -len(a.path)))
        for argument in removable:
            started = time.monotonic()
            changed = copy.deepcopy(cfg)
            if self.seconds <= 0 or not _remove(changed, argument.path):
                continue
            try:
                attempt(changed)
            except Exception:
                continue
            else:
                return argument
            finally:
                self.seconds -= time.monotonic() - started
        return None


def _is_below(path: str, sections: Iterable[str]) -> bool:
    return any(path.startswith((f'{section}.', f'{section}[')) for section in sections)


def _names_value(text: str, arguments: list[Argument]) -> bool:
    """Whether a message says ``key=value`` of one of the arguments."""
    return any(
        re.search(rf'\b{re.escape(a.key)}\s?=\s?{re.escape(str(each))}', text)
        for a in arguments
        for each in (a.value, repr(a.value))
    )


def _is_path_in(value: Any, text: str) -> bool:
    """Whether a message speaks of a file or folder."""
    return isinstance(value, str | os.PathLike) and os.sep in str(value) and str(value) in text


def _largest(value: Any) -> float:
    several = value if isinstance(value, list | tuple) else [value]
    return max((each for each in several if isinstance(each, int | float)), default=-1)


def _equal(value: Any, default: Any) -> bool:
    try:
        return bool(value == default)
    except Exception:  # arrays
        return False


def _remove(cfg: Config, path: str) -> bool:
    """Take a key out of a config; False if it is not there."""
    node: Any = cfg
    *parents, last = [
        int(part[1:-1]) if part.startswith('[') else part
        for part in re.findall(r'\[\d+\]|[^.\[\]]+', path)
    ]
    try:
        for part in parents:
            node = node[part]
        node.pop(last)
    except (KeyError, IndexError, TypeError, AttributeError):
        return False
    return True
