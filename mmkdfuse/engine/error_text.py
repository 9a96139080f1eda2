"""Errors in the words of a user: one line, and whether anybody meant it to be read."""

import dis
import os
import re
import traceback
from pathlib import Path

# Phrases of the interpreter and of libraries that speak to programmers.
_RAW = re.compile(
    r"not supported between|object is not|' object has no|has no attribute|unexpected keyword"
    r'|unsupported operand|missing \d+ required|missing a required|multiply sequence'
    r'|invalid literal'
    r'|cannot convert (float|dictionary|the)|could not convert string|positional argument'
    r'|not all arguments converted|must be a mapping|not a mapping|dictionary update sequence'
    r'|indices must be|not subscriptable|not iterable|not callable|expected str, bytes'
    r'|Cannot cast scalar|SeedSequence|empty sequence|division (by|or modulo)|has no len'
    r'|takes (no|exactly|at (least|most)) |too many values to unpack|not enough values to unpack'
    r'|must be (a )?(real number|str|tuple of ints|bool|int|float), not|cannot be interpreted'
    r'|NoneType|size \(position|referenced before|must be tuple of|invalid combination'
    r'|expected (a sequence of|\d+ arguments)|list index out of range'
)
_OUT_OF_MEMORY = re.compile(
    r"can't allocate memory|out of memory|Unable to allocate", re.IGNORECASE
)
NO_MEMORY = 'needs more memory than there is'
_SPEAKING = (ValueError, RuntimeError, OSError, NotImplementedError, ImportError)


def sentence(error: BaseException) -> str:
    """Return an error's message on one line, without its full stop."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f'{error.strerror}: {os.fspath(error.filename)!r}'
    # str() of a KeyError is the repr of its message.
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    text = ' '.join(str(text).split()) or type(error).__name__
    return text.rstrip('.')


def is_raw(error: BaseException) -> bool:
    """Whether an error comes from the interpreter instead of a ``raise`` that explains it.

    Example:
        >>> try:
        ...     1 < 'a'
        ... except TypeError as error:
        ...     is_raw(error)
        True
        >>> try:
        ...     raise TypeError('width is a number')
        ... except TypeError as error:
        ...     is_raw(error)
        False
    """
    if not str(error).strip() or _RAW.search(str(error)):
        return True
    return not isinstance(error, _SPEAKING) and not _is_raised(error)


def _is_raised(error: BaseException) -> bool:
    """Whether the innermost frame stands at a ``raise`` or ``assert``."""
    frame = error.__traceback__
    if frame is None:
        return True
    while frame.tb_next is not None:
        frame = frame.tb_next
    code = frame.tb_frame.f_code.co_code
    return dis.opname[code[frame.tb_lasti]] in ('RAISE_VARARGS', 'RERAISE')


def readable(error: BaseException) -> str:
    """Return an error's message where it was written to be read, else an empty text."""
    text = sentence(error)
    if _OUT_OF_MEMORY.search(text):
        return NO_MEMORY
    return '' if is_raw(error) else text


def note_start(error: BaseException) -> None:
    """Note that an error came before the first iteration: the config or the machine is to blame."""
    error.before_start = True  # type: ignore[attr-defined]


def is_before_start(error: BaseException) -> bool:
    """Whether :func:`note_start` saw an error."""
    return getattr(error, 'before_start', False)


def whereabouts(error: BaseException) -> str:
    """Return type, message and place of an error in code, for one who has to debug it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f' at {Path(frames[-1].filename).name}:{frames[-1].lineno}' if frames else ''
    text = sentence(error)
    name = type(error).__name__
    return f'{name}{place}' if text == name else f'{name}{place} ({text})'
