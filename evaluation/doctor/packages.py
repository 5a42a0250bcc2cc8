"""Versions of packages as they are installed, without importing one, and whether they are in range."""

import configparser
import importlib.metadata
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent.parent
OPENCV = ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python')
# Of interest in a report beside what the suite asks for.
FURTHER = (*OPENCV, 'triton', 'tensorboard')


def package_facts(setup: Path = REPOSITORY / 'setup.cfg') -> dict[str, Any]:
    """Versions by name, and what is missing or out of the range that the suite asks for."""
    wanted = requirements(setup)
    names = [name for name, _ in wanted] + [name for name in FURTHER if name not in dict(wanted)]
    versions = {name: installed(name) for name in names}
    unfit = [
        f'{name} {versions[name] or "missing"}, {name}{range_} is asked for'
        for name, range_ in wanted
        if versions[name] is None or not is_in(versions[name], range_)
    ]
    return {'versions': versions, 'unfit': unfit}


def requirements(setup: Path) -> list[tuple[str, str]]:
    """Name and range, such as `>=2.6`, of each package that the suite asks for."""
    parser = configparser.ConfigParser()
    parser.read(setup)
    lines = parser.get('options', 'install_requires', fallback='').split('\n')
    found = []
    for line in filter(None, (line.partition('#')[0].strip() for line in lines)):
        name = line.partition('>')[0].partition('<')[0].partition('=')[0].strip()
        found.append((name, line[len(name) :].strip()))
    return found


def installed(name: str) -> str | None:
    """Version of a distribution; None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def is_in(version: str, range_: str) -> bool:
    """Whether a version is in a range such as `>=0.10.12,<0.11`."""
    for bound in filter(None, range_.split(',')):
        number = as_numbers(bound.lstrip('<>='))
        ours = as_numbers(version)[: len(number)]
        ours += (0,) * (len(number) - len(ours))
        if bound.startswith('>=') and ours < number:
            return False
        if bound.startswith('<') and ours >= number:
            return False
    return True


def as_numbers(version: str) -> tuple[int, ...]:
    """`2.11.0+cpu` as (2, 11, 0)."""
    numbers = []
    for part in version.partition('+')[0].split('.'):
        digits = ''.join(letter for letter in part if letter.isdigit())
        if not digits or not part[0].isdigit():
            break
        numbers.append(int(digits))
    return tuple(numbers)
