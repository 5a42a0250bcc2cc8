"""Seeded damage to the structure and the bytes of a JSON file."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

NAN, INFINITY = float('nan'), float('inf')
# Replacement values.
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 1.5, -0.0, 1e-300, 1e9, 1e308, -1e308, NAN, INFINITY, -INFINITY),
    *(2**31, 2**53, 2**63, 2**64, 10**30, 10**400, 10**4000),
    *(
        '',
        'x',
        '0',
        'NaN',
        '../../etc/passwd',
        '/etc/passwd',
        '\ud800',
        'a\0b',
        'a' * 5000,
        'ü',
        '.',
        '..',
    ),
    *([], {}, [[]], [None], [[], []], {'a': {}}, [1, 2, 3, 4], [[1, 2, 3, 4]], [[0] * 6], [[1e18] * 6]),
    *(
        [[0, 0, 1e12, 0, 0, 1e12]],
        {'size': [64, 64], 'counts': [10**12]},
        {'size': [64, 64], 'counts': 'x'},
    ),
    *(
        {'size': [2**31, 2**31], 'counts': [2**62]},
        {'counts': []},
        {'size': [64, 64], 'counts': '0' * 9},
    ),
)
# Sections whose structure is damaged; the empty name is the whole file.
SECTIONS = ('', 'images', 'images', 'categories', 'categories', *['annotations'] * 4)
ATTEMPTS = 10
Place = tuple[Any, Any]


def mutate_json(file: Path, random: Random) -> str:
    """Damage a JSON file one to three times; return a description of the damage."""
    structural = random.random() < 0.75
    changes = STRUCTURE if structural else BYTES
    wanted, done = random.choice((1, 1, 1, 2, 3)), []
    for _ in range(ATTEMPTS):
        if len(done) == wanted:
            break
        try:
            done.append(random.choice(changes)(file, random))
        # Some changes fail on parts that are already damaged.
        except (ValueError, RecursionError, IndexError, TypeError, AttributeError, KeyError):
            continue
    return ', '.join(done)


def places(value: Any) -> list[Place]:
    """Return every container in a JSON value, paired with each of its keys or indices."""
    found: list[Place] = []
    waiting = [value]
    while waiting:
        top = waiting.pop()
        keys = top if isinstance(top, dict) else range(len(top)) if isinstance(top, list) else ()
        for key in keys:
            found.append((top, key))
            waiting.append(top[key])
    return found


def _on_structure(change: Callable[[Any, list[Place], Random], str]) -> Callable[[Path, Random], str]:
    def apply(file: Path, random: Random) -> str:
        content = json.loads(file.read_text())
        # Choose a section first, because most values are coordinates and notes.
        name = random.choice(SECTIONS)
        section = content[name] if name else content
        what = change(content, places(section) or places(content), random)
        file.write_text(json.dumps(content))
        return what

    return apply


def _replace(content: Any, found: list[Place], random: Random) -> str:
    container, key = random.choice(found)
    container[key] = value = random.choice(VALUES)
    return f'{key} := {repr(value)[:40]}'


def _replace_key(content: Any, found: list[Place], random: Random) -> str:
    """Replace the value of a named key."""
    return _replace(content, [place for place in found if isinstance(place[1], str)] or found, random)


def _delete(content: Any, found: list[Place], random: Random) -> str:
    container, key = random.choice(found)
    del container[key]
    return f'{key} deleted'


def _swap(content: Any, found: list[Place], random: Random) -> str:
    (one, first), (other, second) = random.choice(found), random.choice(found)
    one[first], other[second] = other[second], one[first]
    return f'{first} and {second} swapped'


def _repeat(content: Any, found: list[Place], random: Random) -> str:
    lists = [place for place in found if isinstance(place[0], list)]
    container, index = random.choice(lists)
    container.insert(random.randrange(len(container) + 1), container[index])
    return f'entry {index} repeated'


def _rename(content: Any, found: list[Place], random: Random) -> str:
    named = [place for place in found if isinstance(place[0], dict)]
    container, key = random.choice(named)
    container[random.choice((key.upper(), f'{key}s', ''))] = container.pop(key)
    return f'{key} renamed'


def _scale(content: Any, found: list[Place], random: Random) -> str:
    numbers = [(c, k) for c, k in found if isinstance(c[k], int | float)]
    container, key = random.choice(numbers)
    factor = random.choice((-1, 0, 0.001, 1000, 1e6, 1e300))
    container[key] = container[key] * factor
    return f'{key} times {factor:g}'


def _nest(content: Any, found: list[Place], random: Random) -> str:
    container, key = random.choice(found)
    for _ in range(random.choice((1, 2, 500))):
        container[key] = [container[key]]
    return f'{key} nested'


def _on_bytes(change: Callable[[bytes, Random], tuple[bytes, str]]) -> Callable[[Path, Random], str]:
    def apply(file: Path, random: Random) -> str:
        content, what = change(file.read_bytes(), random)
        file.write_bytes(content)
        return what

    return apply


def cut_short(content: bytes, random: Random) -> tuple[bytes, str]:
    """Return the first part of a file."""
    length = random.randrange(len(content) + 1)
    return content[:length], f'cut to {length} bytes'


def flip_bits(content: bytes, random: Random) -> tuple[bytes, str]:
    """Return a file with some bits flipped."""
    changed = bytearray(content)
    count = random.choice((1, 1, 2, 8, 100))
    for _ in range(count if changed else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed), f'{count} bits flipped'


def drop_part(content: bytes, random: Random) -> tuple[bytes, str]:
    """Return a file without some bytes in its middle."""
    start = random.randrange(len(content) + 1)
    length = random.choice((1, 2, 10, 1000))
    return content[:start] + content[start + length :], f'{length} bytes dropped'


def zero_part(content: bytes, random: Random) -> tuple[bytes, str]:
    """Return a file with zeros in its middle, like a copy with holes."""
    start = random.randrange(len(content) + 1)
    length = min(random.choice((1, 100, 4096)), len(content) - start)
    return content[:start] + bytes(length) + content[start + length :], f'{length} bytes zeroed'


def insert_noise(content: bytes, random: Random) -> tuple[bytes, str]:
    """Return a file with random bytes inserted."""
    start = random.randrange(len(content) + 1)
    noise = random.randbytes(random.choice((1, 4, 100)))
    return content[:start] + noise + content[start:], f'{len(noise)} bytes inserted'


def empty(content: bytes, random: Random) -> tuple[bytes, str]:
    """Return an empty file."""
    return b'', 'emptied'


def _in_utf16(content: bytes, random: Random) -> tuple[bytes, str]:
    return content.decode(errors='replace').encode('utf-16'), 'in UTF-16'


def _with_mark(content: bytes, random: Random) -> tuple[bytes, str]:
    return b'\xef\xbb\xbf' + content, 'with a byte order mark'


def _deep(content: bytes, random: Random) -> tuple[bytes, str]:
    return b'[' * 100_000, 'a hundred thousand brackets'


def _digits(content: bytes, random: Random) -> tuple[bytes, str]:
    return content.replace(b': 1,', b': ' + b'9' * 5000 + b',', 1), 'a number of 5000 digits'


STRUCTURE = tuple(
    map(
        _on_structure,
        (_replace, _replace_key, _replace_key, _delete, _swap, _repeat, _rename, _scale, _nest),
    )
)
BYTES = tuple(
    map(
        _on_bytes,
        (
            *(cut_short, cut_short, flip_bits, drop_part, zero_part, insert_noise, empty),
            *(_in_utf16, _with_mark, _deep, _digits),
        ),
    )
)
