"""Allowed imports between parts of the project; rooms (folders of `evaluation/`) form no cycle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.commands import ROOT

TOPS = ('backbones', 'evaluation', 'tools')
FILES = [file for top in TOPS for file in sorted((ROOT / top).rglob('*.py'))]
MOST_FLOORS = 10


def room_of(module):
    """Return the room of a module: a folder of `evaluation`, or `backbones` or `tools`."""
    parts = module.split('.')
    return '.'.join(parts[:2]) if parts[0] == 'evaluation' else parts[0]


def module_of(file):
    return '.'.join(file.relative_to(ROOT).with_suffix('').parts)


def imported(file):
    """Yield the modules that a file imports, including imports inside functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f'{file}: relative import'
            # `from evaluation import tables` names a room, too.
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


def rooms():
    """Return the rooms that each room imports."""
    graph = {}
    for file in FILES:
        room = room_of(module_of(file))
        used = {room_of(name) for name in imported(file) if name.split('.')[0] in TOPS}
        graph.setdefault(room, set()).update(used - {room})
    return graph


def test_rooms_form_no_cycle():
    floors = {}
    graph = rooms()
    # Raises CycleError, which names the rooms.
    for room in TopologicalSorter(graph).static_order():
        floors[room] = 1 + max((floors[below] for below in graph[room]), default=0)
    assert max(floors.values()) <= MOST_FLOORS, floors


def test_every_module_of_evaluation_is_in_a_room():
    assert [path.name for path in (ROOT / 'evaluation').glob('*.py')] == ['__init__.py']


@pytest.mark.parametrize(
    ('importer', 'others'),
    [
        ('backbones', ('evaluation', 'mmdet', 'mmseg', 'tools')),
        ('evaluation', ('tools', 'tests')),
        ('tools', ('tests',)),
    ],
)
def test_lower_parts_do_not_import_higher_ones(importer, others):
    found = [
        f'{module_of(file)} imports {name}'
        for file in FILES
        if Path(file).is_relative_to(ROOT / importer)
        for name in imported(file)
        if name.split('.')[0] in others
    ]
    assert not found
