"""Imports point one way: no two files import each other, and lower rooms know no higher ones."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'mmkdfuse'
FILES = sorted(PACKAGE.rglob('*.py'))
# A room may import itself and those it names here; the ground floor imports nothing of ours.
FILES_OF_WEIGHTS = {'checkpoint', 'checkpoint_reader', 'inert_pickle'}
GROUND = {'structures', 'registry', 'dependencies', 'version', *FILES_OF_WEIGHTS}
ROOMS = {
    'models': GROUND,
    'datasets': GROUND,
    'evaluation': GROUND,
    'analysis': GROUND | {'models'},
    'engine': GROUND | {'models', 'datasets', 'evaluation', 'analysis'},
    'deploy': GROUND | {'models', 'analysis', 'engine'},
    'sweeps': GROUND | {'engine'},
}
# What carries registries out names every room, inside functions.
ALLOWED = {
    *((name, 'dependencies') for name in ('registry', *FILES_OF_WEIGHTS)),
    ('checkpoint', 'checkpoint_reader'),
    ('checkpoint', 'inert_pickle'),
    ('checkpoint_reader', 'inert_pickle'),
}


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {module_of(path): path for path in FILES}


def imports_of(path):
    """Modules of the package that a file imports at its top level; names are resolved to files."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = [f'{node.module}.{alias.name}' for alias in node.names]
            names = [name if name in MODULES else node.module for name in below]
        found |= {name for name in names if name in MODULES}
    return found - {module_of(path)}


GRAPH = {name: imports_of(path) for name, path in MODULES.items()}


def cycles(graph):
    """Modules from which an import leads back to them."""

    def reachable(start):
        seen, todo = set(), list(graph[start])
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += graph[name]
        return seen

    return sorted(name for name in graph if name in reachable(name))


def test_no_two_files_import_each_other():
    assert cycles(GRAPH) == []


def test_a_circle_would_be_found():
    assert cycles({'a': {'b'}, 'b': {'c'}, 'c': {'a'}, 'd': {'a'}}) == ['a', 'b', 'c']


@pytest.mark.parametrize('room', sorted(ROOMS))
def test_rooms_import_downwards(room):
    wrong = [
        f'{name} imports {other}'
        for name, others in GRAPH.items()
        if name.split('.')[1:2] == [room]
        for other in others
        if other != 'mmkdfuse' and other.split('.')[1] not in ROOMS[room] | {room}
    ]
    assert wrong == []


@pytest.mark.parametrize('module', sorted(GROUND))
def test_the_ground_floor_imports_nothing_of_ours(module):
    others = {name.removeprefix('mmkdfuse.') for name in GRAPH[f'mmkdfuse.{module}']}
    assert {other for other in others if (module, other) not in ALLOWED} == set()


def test_losses_know_no_model_class_and_no_runner():
    """Losses and connectors are pure."""
    for name, others in GRAPH.items():
        if name.startswith(('mmkdfuse.models.losses', 'mmkdfuse.models.connectors')):
            rooms = {
                other.split('.')[2] for other in others if other.startswith('mmkdfuse.models.')
            }
            assert rooms <= {'losses', 'connectors', 'layers'}, name
