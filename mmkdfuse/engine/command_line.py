"""Shared parts of the tools: arguments, changes of a config, mistakes in one sentence."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from mmengine.config import DictAction

from mmkdfuse.engine.config_file import ConfigError
from mmkdfuse.engine.error_text import is_before_start, readable, sentence, whereabouts

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


class Parser(argparse.ArgumentParser):
    """Parser whose mistakes are one sentence and exit status 1.

    Example:
        >>> Parser(prog='train.py').parse_args(['--foo'])
        Traceback (most recent call last):
        SystemExit: 1
    """

    def error(self, message: str) -> NoReturn:
        """End with the sentence and where to read on."""
        self.exit(1, f'{self.prog}: {message}; see {self.prog} --help\n')


class Changes(DictAction):
    """Changes of a config, ``KEY=VALUE`` pairs with dotted keys, as mmengine reads them.

    Example:
        >>> parser = Parser(prog='train.py')
        >>> _ = parser.add_argument('--cfg-options', nargs='+', action=Changes)
        >>> parser.parse_args(['--cfg-options', 'model.tau=4', 'a=[1,b]']).cfg_options
        {'model.tau': 4, 'a': [1, 'b']}
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Read the pairs, one by one, so that a wrong one is named."""
        options = dict(getattr(namespace, self.dest, None) or {})
        for pair in values:
            key, equals, value = pair.partition('=')
            if not equals:
                parser.error(f'{option_string}: {pair!r} is no change, expected key=value')
            if not all(part.strip() for part in key.split('.')):
                parser.error(
                    f'{option_string}: {pair!r} has a key with an empty part, expected names with '
                    'one dot between them, such as model.num_classes=10'
                )
            if any(value.count(a) != value.count(b) for a, b in ('()', '[]')):
                parser.error(f'{option_string}: {pair!r} has a bracket without its partner')
            try:
                options[key] = self._parse_iterable(value)
            except (AssertionError, RecursionError, ValueError):
                parser.error(f'{option_string}: {pair!r} cannot be read, check its brackets')
        setattr(namespace, self.dest, options)


def add_changes(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``."""
    parser.add_argument(
        '--cfg-options', nargs='+', action=Changes, help='changes: key.of.config=value ...'
    )


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add ``--launcher`` and what torchrun passes beside it."""
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def run(main: Callable[[], int | None]) -> None:
    """Run a tool: a mistake of the user is one sentence on stderr and exit status 1.

    Mistakes are what the check of a config finds, files that are not there, and everything that
    this package raises to explain itself. Any other error is a bug and keeps its traceback.
    """
    try:
        status = main()
    except ConfigError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        explained = _explained(error)
        if not explained:
            raise
        sys.exit(explained)
    if status:
        sys.exit(status)


_PACKAGE = Path(__file__).resolve().parents[1]


def _explained(error: Exception) -> str:
    """One sentence where the user can mend what went wrong, else an empty text."""
    is_of_a_file = isinstance(error, OSError) and error.filename is not None
    kinds = (ValueError, RuntimeError, OSError)
    if is_of_a_file or (isinstance(error, kinds) and _is_from_here(error)):
        return f'{sentence(error)}.'
    if is_before_start(error):
        return f'the run cannot start: {readable(error) or whereabouts(error)}.'
    return ''


def _is_from_here(error: BaseException) -> bool:
    """Whether code of this package raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    return Path(trace.tb_frame.f_code.co_filename).resolve().is_relative_to(_PACKAGE)
