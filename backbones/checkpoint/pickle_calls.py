"""What the calls of a pickle would take, of the functions that torch lets a pickle of weights call.

A call of a few bytes can make something of any size: from a number, as `torch.FloatTensor(10**9)` does,
from something that was made before, of which it makes a copy, or from its own result, which
`_codecs.encode(..., 'hex')` makes twice as long each time.
"""

import re

from backbones.checkpoint.errors import BombError
from backbones.checkpoint.pickle_structure import (
    LATIN1,
    TEXTS,
    Call,
    Part,
    Structure,
    Value,
    is_tuple,
    name_of,
)

ENCODE = '_codecs.encode'
# Calls a function that is among its arguments.
CALLER = 'torch._tensor._rebuild_from_type_v2'
REBUILDER = 'torch._utils._rebuild_'
# Makes as many bytes as a number says, or as a view of a few claims.
ALLOCATOR = re.compile(
    r'builtins\.bytearray'
    r'|torch\._utils\.(_rebuild_qtensor|_rebuild_device_tensor_from_\w+)'
    r'|torch\.(\w+\.)*\w*(Storage|Tensor)'
)
# These may be called with what is stored in the file, or with nothing.
OF_STORAGES = re.compile(r'torch\.(\w+\.)*\w*Tensor')
TENSOR_BUILDERS = tuple(f'{REBUILDER}tensor{version}' for version in ('', '_v2', '_v3'))
STORED = 'BINPERSID'
# Place, in what stands for a storage, of the number of its elements.
COUNT_PLACE = 4
# Of a training, what calls copy is written out for each of them, but for small things that all share.
COPIES, SPARE_COPIES = 4, 1_000_000


def check_calls(structure: Structure) -> None:
    """Look at all that a pickle calls.

    Raises:
        BombError: a call would take more than its arguments have in the file.
    """
    most = COPIES * structure.size + SPARE_COPIES
    copied = 0
    for call in structure.calls:
        check_call(call)
        copied += _span(call.operand) + sum(_span(each) for each in _entries(call.operand))
        if copied > most:
            raise BombError(f'calls that copy more than {most:,} values, again and again the same ones')


def check_call(call: Call) -> None:
    """Look at one call, or at the setting of a state.

    Raises:
        BombError: it would take more than its operand has in the file.
    """
    name, arguments = call.name, _entries(call.operand)
    if call.sets_state:
        # A state may move a tensor to another storage.
        if name.startswith('torch.') and any(map(_is_stored, arguments)):
            check_view(call.operand)
    elif name == CALLER:
        function, _, inner = (*arguments, None, None, None)[:3]
        if not name_of(function).startswith(REBUILDER) or not is_tuple(inner):
            raise BombError(f'a call of {name} with another function than torch.save gives it')
        check_call(Call(name_of(function), inner))
    elif name == ENCODE:
        if len(arguments) != 2 or not _is_text(arguments[0]) or not _is_text(arguments[1], LATIN1):
            raise BombError(f'a call of {name} for more than a text as {LATIN1}')
    elif ALLOCATOR.fullmatch(name):
        if not OF_STORAGES.fullmatch(name) or not all(map(_is_stored, arguments)):
            raise BombError(f'a call of {name.removeprefix("builtins.")}, which can be of any size')
    elif name in TENSOR_BUILDERS:
        check_view(call.operand)


def check_view(arguments: Value) -> None:
    """Look whether a tensor lies inside of its storage, which torch would otherwise make larger.

    Args:
        arguments: storage, offset, size and stride, in elements.

    Raises:
        BombError: it does not.
    """
    storage, offset, size, stride = (*_entries(arguments), None, None, None, None)[:4]
    if not is_tuple(arguments) or not _is_stored(storage):
        raise BombError('a tensor without a storage')
    count = (*_entries(storage.entries[0]), None, None, None, None, None)[COUNT_PLACE]
    sides, steps = _entries(size), _entries(stride)
    numbers = (count, offset, *sides, *steps)
    if not all(type(number) is int and number >= 0 for number in numbers) or len(sides) != len(steps):
        raise BombError('a tensor whose size is not written as torch.save does')
    last = offset + sum((side - 1) * step for side, step in zip(sides, steps, strict=True))
    if 0 not in sides and last >= count:
        raise BombError(f'a tensor of {last + 1:,} elements, of which the file has {count:,}')


def _is_stored(value: Value) -> bool:
    return isinstance(value, Part) and value.made_by == STORED


def _entries(value: Value) -> list[Value]:
    return value.entries if isinstance(value, Part) else []


def _is_text(value: Value, text: str = '') -> bool:
    return isinstance(value, Part) and value.made_by in TEXTS and text in ('', value.name)


def _span(value: Value) -> int:
    """How much a copy of a value copies: what it holds itself, not what that holds in turn."""
    if not isinstance(value, Part):
        return 1
    if value.made_by == 'REDUCE' and name_of(value.entries[0]) == ENCODE:
        return sum(map(_span, _entries(value.entries[1])))
    return max(value.length, len(value.entries))
