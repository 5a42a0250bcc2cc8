"""How deep and how large the content of a pickle is, found without building any of it."""

import pickle
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

# How many operands the operations that torch reads take from the stack to make one container.
_MAKE = {
    'EMPTY_LIST': 0,
    'EMPTY_DICT': 0,
    'EMPTY_SET': 0,
    'TUPLE1': 1,
    'BINPERSID': 1,
    'TUPLE2': 2,
    'NEWOBJ': 2,
    'REDUCE': 2,
    'TUPLE3': 3,
}
# How many they take to put into the container below.
_FILL = {'APPEND': 1, 'BUILD': 1, 'SETITEM': 2}
_FILL_FROM_MARK = ('APPENDS', 'SETITEMS')
_VALUES = (
    *('BININT', 'BININT1', 'BININT2', 'LONG1', 'BINFLOAT', 'BINUNICODE', 'SHORT_BINSTRING'),
    *('NONE', 'NEWTRUE', 'NEWFALSE', 'EMPTY_TUPLE', 'GLOBAL'),
)
# A value that holds no others.
_ATOM: list = []


@dataclass(frozen=True)
class Structure:
    """What a pickle would build.

    Attributes:
        depth: how many containers are in one another.
        entries: containers and values, each counted as often as it can be reached from any container.
        allocator: full name of the first of the functions that were looked for; None if there is none.
    """

    depth: int
    entries: int
    allocator: str | None


def structure_of(operations: Iterable[tuple[Any, Any, Any]], allocators: Collection[str]) -> Structure:
    """Follow the operations of a pickle, as `pickletools.genops` gives them, on a stack of containers.

    Args:
        operations: all of one pickle.
        allocators: names of functions to look for, module and name with a blank between.

    Raises:
        pickle.UnpicklingError: it is no pickle that torch reads.
    """
    stack: list[list] = []
    marks: list[int] = []
    memo: dict[int, list] = {}
    containers: list[list] = []
    found = None
    for operation, argument, _ in operations:
        name = operation.name
        try:
            if name in _VALUES:
                stack.append(_ATOM)
                found = argument if name == 'GLOBAL' and argument in allocators else found
            elif name in ('BINPUT', 'LONG_BINPUT'):
                memo[argument] = stack[-1]
            elif name in ('BINGET', 'LONG_BINGET'):
                stack.append(memo[argument])
            elif name == 'MARK':
                marks.append(len(stack))
            elif name in _FILL_FROM_MARK:
                _fill(stack, len(stack) - marks.pop())
            elif name in _FILL:
                _fill(stack, _FILL[name])
            elif name in _MAKE or name == 'TUPLE':
                containers.append(
                    _taken(stack, _MAKE[name] if name in _MAKE else len(stack) - marks.pop())
                )
                stack.append(containers[-1])
            elif name not in ('PROTO', 'STOP'):
                raise pickle.UnpicklingError(f'{name} is no operation that torch reads')
        except (IndexError, KeyError) as error:
            raise pickle.UnpicklingError(f'{name} without operands') from error
    return Structure(*_measured(containers), found)


def _taken(stack: list[list], count: int) -> list[list]:
    """Take so many entries from the top of the stack."""
    if not 0 <= count <= len(stack):
        raise IndexError(count)
    taken = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return taken


def _fill(stack: list[list], count: int) -> None:
    """Put so many entries from the top of the stack into the container below."""
    entries = _taken(stack, count)
    if stack[-1] is not _ATOM:
        stack[-1].extend(entries)


def _measured(containers: list[list]) -> tuple[int, int]:
    """Greatest depth and number of entries of any of the containers."""
    depth, entries = 0, 0
    known: dict[int, tuple[int, int]] = {id(_ATOM): (0, 1)}
    for container in containers:
        below, inside = _measure(container, known)
        depth, entries = max(depth, below), max(entries, inside)
    return depth, entries


def _measure(container: list, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Depth and entries of one; `known` has those that were measured, by `id`."""
    waiting = [container]
    opened = set()
    while waiting:
        top = waiting[-1]
        if id(top) in known:
            waiting.pop()
            continue
        unknown = [each for each in top if id(each) not in known and id(each) not in opened]
        if unknown and id(top) not in opened:
            opened.add(id(top))
            waiting += unknown
            continue
        # What is opened and not known leads back to itself, and is counted once.
        parts = [known.get(id(each), (0, 1)) for each in top]
        below = 1 + max((part[0] for part in parts), default=0)
        known[id(top)] = below, 1 + sum(part[1] for part in parts)
        waiting.pop()
    return known[id(container)]
