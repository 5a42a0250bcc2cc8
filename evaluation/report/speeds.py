"""Measured times of a pass, from what `tools/benchmark.py --json` wrote."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.report.problems import Problems

# What such a file has, in the order in which it is written.
_KEYS = {'machine', 'dtype', 'backward', 'compiled', 'scope', 'rounds', 'results'}
# Other JSON files can be long; nothing of a benchmark is this large.
_MOST_BYTES = 50_000_000


@dataclass(frozen=True)
class Speed:
    """Times under one condition.

    Attributes:
        condition: what ran on what, in words.
        milliseconds: median over the rounds, by name of the row: that of a config.
        file: where it was read.
    """

    condition: str
    milliseconds: Mapping[str, float]
    file: Path


def load_speeds(folders: Iterable[Path], problems: Problems) -> list[Speed]:
    """Every benchmark at any depth below some folders."""
    files = {file.resolve(): file for folder in folders for file in Path(folder).rglob('*.json')}
    found = []
    for _, file in sorted(files.items()):
        if file.name == 'result.json' or not _may_be_benchmark(file):
            continue
        with problems.leaving_out(file):
            content = json.loads(file.read_text(encoding='utf-8'))
            found += _speeds(content, file)
    return found


def _may_be_benchmark(file: Path) -> bool:
    """Whether a file begins as benchmarks do, so that others need not be read."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            return False
        with open(file, encoding='utf-8') as stream:
            return '"machine"' in stream.read(200)
    except (OSError, UnicodeDecodeError):
        return False


def _speeds(content: object, file: Path) -> list[Speed]:
    if type(content) is not dict or not content.keys() >= _KEYS:
        raise ValueError('no benchmark of this version of the suite')
    found = []
    for result in content['results']:
        size = result['size']
        times = {
            row['name']: _milliseconds(row['seconds'])
            for row in result['rows']
            if not row['ran_out_of_memory']
        }
        found.append(Speed(_condition(content, size), times, file))
    return found


def _milliseconds(seconds: Sequence[float]) -> float:
    median = 1e3 * statistics.median(seconds)
    if not math.isfinite(median):
        raise ValueError('a time is not finite')
    return median


def _condition(content: Mapping, size: Mapping) -> str:
    images = 'image' if size['batch'] == 1 else 'images'
    facts = [
        'forward and backward' if content['backward'] else 'forward',
        content['scope'].partition(':')[0],
        f'{size["batch"]} {images} of {size["height"]}x{size["width"]}',
        content['dtype'],
        *(['compiled'] if content['compiled'] else []),
        content['machine']['name'],
    ]
    return ', '.join(facts)
