"""The parts of the benchmark: found in the package, run by name."""

import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

import benchmarks
from benchmarks.measure import Options, Row


@dataclass(frozen=True)
class Result:
    """What one part measured."""

    name: str
    title: str
    rows: list[Row]


def find_parts() -> dict[str, ModuleType]:
    """Returns name -> module of every part: every module of the package with a `TITLE`."""
    names = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    modules = {
        name: importlib.import_module(f'benchmarks.{name}')
        for name in names
        if not name.startswith('_')  # `__main__` runs when imported
    }
    return {name: module for name, module in modules.items() if hasattr(module, 'TITLE')}


def choose_parts(names: Iterable[str]) -> dict[str, ModuleType]:
    """Returns the named parts in the order of the names, or all where there are none.

    Raises:
        ValueError: a name is no part.
    """
    parts = find_parts()
    names = list(names)
    unknown = [name for name in names if name not in parts]
    if unknown:
        raise ValueError(
            f'There is no part {", ".join(map(repr, unknown))}; the parts are {", ".join(parts)}.'
        )
    return {name: parts[name] for name in names} if names else parts


def run_part(name: str, part: ModuleType, options: Options) -> Result:
    """Measures one part.

    Raises:
        RuntimeError: the part returned no rows.
    """
    rows = part.measure(options)
    if not rows:
        raise RuntimeError(f'The part {name!r} measured nothing: it returned no rows.')
    return Result(name, part.TITLE, rows)
