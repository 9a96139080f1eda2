"""A named list of rows of a results table, each a config with changes and seeds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mmengine


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: Unique in its suite; the name of its folder.
        config: Path below ``configs/``, or of a file.
        seeds: Seeds to train with, in order.
        options: Changes with dotted keys; ``{work_dir}`` in a text stands for the folder of all
            runs, for teachers that are rows of the same suite.
        paper: Figures of a paper by head, in percent, for the table.

    Example:
        >>> Row('kfmsd', 'kfmsd/resnet18_cifar100.py', seeds=(0, 1)).seeds
        (0, 1)
    """

    name: str
    config: str
    seeds: tuple[int, ...] = (0,)
    options: dict[str, Any] = field(default_factory=dict)
    paper: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """Rows in order of value: those whose figures are worth most come first.

    Attributes:
        title: Heading of the table.
        rows: The rows.

    Example:
        >>> suite = Suite('Two rows', (Row('a', 'x.py', (0, 1)), Row('b', 'y.py')))
        >>> [(row.name, seed) for row, seed in suite.runs()]
        [('a', 0), ('b', 0), ('a', 1)]
    """

    title: str
    rows: tuple[Row, ...]

    def runs(self) -> Iterator[tuple[Row, int]]:
        """Yield every row with its first seed, then every row with its second, and so on."""
        for number in range(max((len(row.seeds) for row in self.rows), default=0)):
            for row in self.rows:
                if number < len(row.seeds):
                    yield row, row.seeds[number]


def read_suite(name: str | os.PathLike) -> Suite:
    """Read a suite by name or path.

    The file is YAML: ``title``, ``options`` and ``seeds`` for all rows, and ``rows`` with ``name``,
    ``config`` and, where a row has its own, ``options``, ``seeds`` and ``paper``.

    Args:
        name: Path of a YAML file, or the name of one in ``configs/suites``.

    Raises:
        FileNotFoundError: There is no such suite; the sentence lists those there are.
        ValueError: A row lacks its name or config, has an unknown key, or a name occurs twice.
    """
    path = Path(name)
    if not path.is_file():
        folder = config_root() / 'suites'
        path = folder / f'{name}.yml'
        if not path.is_file():
            known = ', '.join(sorted(each.stem for each in folder.glob('*.yml')))
            raise FileNotFoundError(f'suite={str(name)!r} is no file and none of {known}.')
    content = mmengine.load(str(path), file_format='yaml')
    common, seeds = content.get('options') or {}, content.get('seeds') or [0]
    rows = []
    for number, entry in enumerate(content['rows'], start=1):
        unknown = set(entry) - {'name', 'config', 'seeds', 'options', 'paper'}
        if unknown or not {'name', 'config'} <= set(entry):
            raise ValueError(
                f'{path}, row {number}: keys {sorted(entry)}, expected name, config and, where '
                'needed, seeds, options, paper.'
            )
        options = {**common, **(entry.get('options') or {})}
        own = tuple(entry.get('seeds') or seeds)
        rows.append(Row(entry['name'], entry['config'], own, options, entry.get('paper') or {}))
    names = [row.name for row in rows]
    twice = sorted({each for each in names if names.count(each) > 1})
    if twice:
        raise ValueError(f'{path}: the name {twice[0]!r} occurs twice, expected different names.')
    return Suite(content['title'], tuple(rows))


def config_root() -> Path:
    """Folder of the shipped configs, in a clone or in an installed package."""
    package = Path(__file__).resolve().parents[1]
    packed = package / '.mim' / 'configs'
    return packed if packed.is_dir() else package.parent / 'configs'
