"""How deep and large the content of a pickle is and what it calls, found without building any of it."""

import pickle
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch._utils import IMPORT_MAPPING, NAME_MAPPING

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
_TUPLES = ('TUPLE', 'TUPLE1', 'TUPLE2', 'TUPLE3')
_CALLS = ('REDUCE', 'NEWOBJ')
_CONTAINERS = frozenset((*_MAKE, *_TUPLES))
# Results of calls may be so.
_FILLABLE = ('EMPTY_LIST', 'EMPTY_DICT', *_CALLS)
# How many they take to put into the container below.
_FILL = {'APPEND': 1, 'BUILD': 1, 'SETITEM': 2}
_FILL_FROM_MARK = ('APPENDS', 'SETITEMS')
_NUMBERS = ('BININT', 'BININT1', 'BININT2', 'LONG1')
TEXTS = ('BINUNICODE', 'SHORT_BINSTRING')
_OTHER_VALUES = ('BINFLOAT', 'NONE', 'NEWTRUE', 'NEWFALSE', 'EMPTY_TUPLE')
# The only text that anything depends on.
LATIN1 = 'latin1'


@dataclass(slots=True, eq=False)
class Part:
    """What an operation of a pickle puts on the stack, if it is neither a number nor a plain constant.

    Attributes:
        made_by: name of the operation.
        name: full name of a class or function; of a text, itself if it is `latin1`.
        length: of a text, in characters.
        entries: of a container, or function and arguments of a call and what was then put into its
            result: parts, whole numbers, and None for other values.
    """

    made_by: str
    name: str = ''
    length: int = 1
    entries: list['Part | int | None'] = field(default_factory=list)


Value = Part | int | None


@dataclass(frozen=True)
class Call:
    """A call that a pickle wants, or a state that it sets of an object that a call made.

    Attributes:
        name: full name of what is called, or was called to make the object; empty if it has none.
        operand: the arguments, or the state.
        sets_state: whether this is a state.
    """

    name: str
    operand: Value
    sets_state: bool = False


@dataclass(frozen=True)
class Structure:
    """What a pickle would build.

    Attributes:
        depth: how many containers are in one another.
        entries: containers and values, each counted as often as it can be reached from any container;
            a float, since there may be more than any integer should count.
        calls: what it calls.
        left: how many values it makes and leaves unused.
        size: of the pickle, in bytes.
    """

    depth: int
    entries: float
    calls: list[Call]
    left: int
    size: int


def structure_of(operations: Iterable[tuple[Any, Any, int]]) -> Structure:
    """Follow the operations of a pickle, as `pickletools.genops` gives them, on a stack.

    Args:
        operations: all of one pickle, with their operands and positions.

    Raises:
        pickle.UnpicklingError: it is no pickle that torch reads.
    """
    stack: list[Value] = []
    marks: list[int] = []
    memo: dict[int, Value] = {}
    containers: list[Part] = []
    calls: list[Call] = []
    start = end = None
    for operation, argument, position in operations:
        start, end = position if start is None else start, position
        name = operation.name
        try:
            if name in ('BINPUT', 'LONG_BINPUT'):
                memo[argument] = stack[-1]
            elif name in ('BINGET', 'LONG_BINGET'):
                stack.append(memo[argument])
            elif name == 'MARK':
                marks.append(len(stack))
            elif name in _FILL or name in _FILL_FROM_MARK:
                entries = _taken(stack, _FILL[name] if name in _FILL else len(stack) - marks.pop())
                _fill(stack[-1], entries)
                if name == 'BUILD':
                    calls.append(Call(name_of(stack[-1].entries[0]), entries[0], sets_state=True))
            elif name in _CONTAINERS:
                count = _MAKE[name] if name in _MAKE else len(stack) - marks.pop()
                containers.append(Part(name, entries=_taken(stack, count)))
                stack.append(containers[-1])
                if name in _CALLS:
                    calls.append(_call(*containers[-1].entries))
            elif name not in ('PROTO', 'STOP'):
                stack.append(_value(name, argument))
        except (IndexError, KeyError) as error:
            raise pickle.UnpicklingError(f'{name} without operands') from error
    return Structure(*_measured(containers), calls, len(stack) - 1, (end or 0) - (start or 0))


def _value(name: str, argument: Any) -> Value:
    """What an operation without operands puts on the stack."""
    if name in _NUMBERS:
        return argument
    if name in TEXTS:
        return Part(name, LATIN1 if argument == LATIN1 else '', max(1, len(argument)))
    if name == 'GLOBAL':
        return Part(name, _full_name(argument))
    if name in _OTHER_VALUES:
        return None
    raise pickle.UnpicklingError(f'{name} is no operation that torch reads')


def _full_name(argument: str) -> str:
    """Module and name, which pickletools gives with a blank between, as torch reads them."""
    module, _, name = argument.partition(' ')
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f'{module}.{name}'


def _taken(stack: list[Value], count: int) -> list[Value]:
    """Take so many entries from the top of the stack."""
    if not 0 <= count <= len(stack):
        raise IndexError(count)
    taken = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return taken


def _fill(container: Value, entries: list[Value]) -> None:
    """Put entries into a container.

    Raises:
        pickle.UnpicklingError: it takes none; what was looked at of it would not be what it holds.
    """
    if not isinstance(container, Part) or container.made_by not in _FILLABLE:
        raise pickle.UnpicklingError('entries for what takes none')
    container.entries.extend(entries)


def _call(function: Value, arguments: Value) -> Call:
    if arguments is not None and not is_tuple(arguments):
        raise pickle.UnpicklingError('arguments that are no tuple')
    return Call(name_of(function), arguments)


def name_of(value: Value) -> str:
    """Full name of a class or function; empty of anything else."""
    return value.name if isinstance(value, Part) and value.made_by == 'GLOBAL' else ''


def is_tuple(value: Value) -> bool:
    """Whether this is a tuple that has entries, which cannot change any more."""
    return isinstance(value, Part) and value.made_by in _TUPLES


def _is_container(value: Value) -> bool:
    return isinstance(value, Part) and value.made_by in _CONTAINERS


def _measured(containers: list[Part]) -> tuple[int, float]:
    """Greatest depth and number of entries of any of the containers."""
    depth, entries = 0, 0.0
    known: dict[int, tuple[int, float]] = {}
    for container in containers:
        below, inside = _measure(container, known)
        depth, entries = max(depth, below), max(entries, inside)
    return depth, entries


def _measure(container: Part, known: dict[int, tuple[int, float]]) -> tuple[int, float]:
    """Depth and entries of one; `known` has those that were measured, by `id`."""
    waiting = [container]
    opened = set()
    while waiting:
        top = waiting[-1]
        if id(top) in known:
            waiting.pop()
            continue
        parts = [each for each in top.entries if _is_container(each)]
        unknown = [each for each in parts if id(each) not in known and id(each) not in opened]
        if unknown and id(top) not in opened:
            opened.add(id(top))
            waiting += unknown
            continue
        # What is opened and not known leads back to itself, and is counted once.
        sizes = [known.get(id(each), (0, 1.0)) for each in parts]
        below = 1 + max((size[0] for size in sizes), default=0)
        others = len(top.entries) - len(parts)
        known[id(top)] = below, 1.0 + others + sum(size[1] for size in sizes)
        waiting.pop()
    return known[id(container)]
