"""Types and ranges of a config's values, judged by the annotations of constructors."""

import inspect
import logging
import math
import numbers
import os
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Range:
    """Range of a number, for ``Annotated[int, Range(1)]``.

    Attributes:
        least: Smallest valid value, or None.
        most: Largest valid value, or None.
        above: Value that the number must exceed, or None.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None

    def holds(self, number: Any) -> bool:
        """Whether a number lies in the range."""
        return (
            (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.above is None or number > self.above)
        )

    def __str__(self) -> str:
        if self.least is not None and self.most is not None:
            return f'from {self.least} to {self.most}'
        bounds = {'>=': self.least, '<=': self.most, '>': self.above}
        return ' and '.join(
            f'{sign} {bound}' for sign, bound in bounds.items() if bound is not None
        )


Positive = Annotated[int, Range(1)]
NotNegative = Annotated[int, Range(0)]
AboveZero = Annotated[float, Range(above=0)]
LogLevel = Literal['CRITICAL', 'ERROR', 'WARNING', 'INFO', 'DEBUG', 'NOTSET', 'WARN', 'FATAL'] | int
assert set(typing.get_args(typing.get_args(LogLevel)[0])) <= set(logging._nameToLevel)

_PATHS = (str, os.PathLike)
_LISTS = (list, tuple, set, frozenset, range, np.ndarray)
_PLAIN = (str, bytes, bool, int, float, type(None), *_LISTS)


def reason_against(value: Any, annotation: Any, default: Any = None, strict: bool = False) -> str:
    """Return why a value does not fit a parameter; empty if it does.

    Args:
        value: From a config.
        annotation: Of the parameter, ``inspect.Parameter.empty`` where it has none.
        default: Of the parameter; it always fits.
        strict: True for constructors of this package, whose annotations are exact: floats must be
            finite, integers no floats, lists of strings no strings. Other packages are looser with
            their annotations than with what they accept.
    """
    if annotation in (inspect.Parameter.empty, Any):
        if not (isinstance(default, bool) and isinstance(value, str)):
            return ''
        annotation = bool  # any string would count as true
    try:
        if value is default or fits(value, annotation, strict):
            return ''
    except Exception:  # an annotation of a kind that is not known here
        return ''
    is_infinite = isinstance(value, float) and math.isinf(value)
    return f'expected {"a finite number" if is_infinite else describe(annotation)}'


def fits(value: Any, annotation: Any, strict: bool) -> bool:
    """Whether a value from a config can be what an annotation says."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is None or annotation is type(None):
        return value is None
    if origin is Annotated:
        inner, *marks = arguments
        ranges = [mark for mark in marks if isinstance(mark, Range)]
        return fits(value, inner, strict) and (
            not isinstance(value, numbers.Real) or all(mark.holds(value) for mark in ranges)
        )
    if origin in (Union, types.UnionType):
        return any(fits(value, each, strict) for each in arguments)
    if origin is Literal:
        return any(value == each and type(value) is type(each) for each in arguments)
    kind = origin or annotation
    if not isinstance(kind, type):
        return True
    if kind in (bool, int, float, complex, numbers.Number, numbers.Real):
        return _fits_number(value, kind, strict)
    if kind is str:
        return isinstance(value, _PATHS)
    if issubclass(kind, os.PathLike):
        return isinstance(value, _PATHS)
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping) and (
            len(arguments) != 2 or all(fits(each, arguments[1], strict) for each in value.values())
        )
    if _is_list(kind):
        return _fits_list(value, kind, arguments, strict)
    if kind is Callable:
        return callable(value) or isinstance(value, Mapping)
    if kind in (type, object):
        return True
    if kind is Tensor:
        return isinstance(value, Tensor)
    # An object: the config holds it, or a dict from which it is built.
    return isinstance(value, (kind, Mapping)) or not (
        value is None or (strict and isinstance(value, _PLAIN))
    )


def _is_list(kind: type) -> bool:
    """Whether a type is one of Python's own kinds of lists."""
    return kind.__module__ in ('builtins', 'collections.abc') and (
        issubclass(kind, Collection) or kind in (Iterable, Iterator)
    )


def _fits_number(value: Any, kind: type, strict: bool) -> bool:
    if kind is bool:
        return isinstance(value, bool | np.bool_) or (
            isinstance(value, numbers.Integral) and value in (0, 1)
        )
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        return False
    if kind is int:
        whole = isinstance(value, numbers.Integral)
        return whole or (not strict and math.isfinite(value) and float(value).is_integer())
    return math.isfinite(value) if strict and kind is float else not math.isnan(value)


def _fits_list(value: Any, kind: type, arguments: tuple, strict: bool) -> bool:
    if isinstance(value, str):
        return not strict and str in arguments
    if not isinstance(value, _LISTS):
        return isinstance(value, kind)
    items = [each for each in arguments if each is not Ellipsis]
    if strict and issubclass(kind, tuple) and Ellipsis not in arguments and items:
        return len(value) == len(items) and all(
            fits(each, item, strict) for each, item in zip(value, items, strict=True)
        )
    return not items or all(any(fits(each, item, strict) for item in items) for each in value)


_NOUNS = {
    bool: ('True or False', 'True or False'),
    int: ('an integer', 'integers'),
    float: ('a number', 'numbers'),
    complex: ('a number', 'numbers'),
    numbers.Number: ('a number', 'numbers'),
    numbers.Real: ('a number', 'numbers'),
    str: ('a string', 'strings'),
    type(None): ('None', 'None'),
}


def describe(annotation: Any, plural: bool = False) -> str:
    """Return what an annotation allows, in words.

    Example:
        >>> from collections.abc import Sequence
        >>> describe(int | Sequence[int] | None)
        'an integer, a list of integers or None'
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is None:
        return 'None'
    if annotation in _NOUNS:
        return _NOUNS[annotation][plural]
    if origin is Annotated:
        return f'{describe(arguments[0], plural)} {arguments[1]}'
    if origin in (Union, types.UnionType):
        words = [describe(each, plural) for each in arguments if each is not Tensor]
        words = list(dict.fromkeys(word for word in words if word != 'None'))
        words += ['None'] if type(None) in arguments else []
        return ' or '.join([', '.join(words[:-1]), words[-1]] if len(words) > 1 else words)
    if origin is Literal:
        return ' or '.join(map(repr, arguments))
    kind = origin or annotation
    if not isinstance(kind, type):
        return 'another value'
    if issubclass(kind, os.PathLike):
        return 'paths' if plural else 'a path'
    if issubclass(kind, Mapping):
        noun = 'dicts' if plural else 'a dict'
        known = len(arguments) == 2 and arguments[1] is not Any
        return f'{noun} of {describe(arguments[1], plural=True)}' if known else noun
    if _is_list(kind):
        items = dict.fromkeys(describe(a, plural=True) for a in arguments if a is not Ellipsis)
        noun = 'lists' if plural else 'a list'
        inner = ' or '.join(items)
        return f'{noun} of {f"({inner})" if " or " in inner else inner}' if items else noun
    return 'dicts' if plural else 'a dict'


def short(value: Any, width: int = 80) -> str:
    """Return a value as it is written in a config, on one line of limited length."""
    text = ' '.join(repr(value.to_dict() if hasattr(value, 'to_dict') else value).split())
    return text if len(text) <= width else f'{text[: width - 3]}...'


def numbers_below(path: str, node: Any) -> Iterator[tuple[str, Any, float]]:
    """Yield every number of a nested config that is no integer.

    Before it the path and value of what has a name: the number itself or the list it stands in.
    """
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from numbers_below(f'{path}.{key}', value)
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            for inner, shown, number in numbers_below(f'{path}[{index}]', value):
                yield (path, node, number) if shown is value else (inner, shown, number)
    elif isinstance(node, numbers.Real) and not isinstance(node, numbers.Integral):
        yield path, node, float(node)
