"""What `tools/compare.py` does."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
from tqdm import tqdm

from evaluation.results.reading import load_results, read_result
from evaluation.results.result import Result
from evaluation.results.selection import select
from evaluation.statistics.bootstrap import check_resamples
from evaluation.statistics.comparison import Comparison, compare
from evaluation.statistics.error_report import errors_text
from evaluation.statistics.randomization import MOST_SWAPS
from evaluation.statistics.report import comparison_text
from evaluation.statistics.seeds import by_experiment
from evaluation.utils.errors import UserError

# Experiments that an error names.
SHOWN = 3


def compare_places(arguments: argparse.Namespace) -> str:
    """Compare as the command line of `tools/compare.py` asks, and return what to write.

    Raises:
        UserError: a place holds no or several experiments, or the two cannot be compared.
    """
    check_resamples(arguments.resamples)
    sides = [runs_at(Path(place), arguments.task) for place in (arguments.a, arguments.b)]
    check_different(*sides)
    with (
        tqdm(total=arguments.resamples, desc='resamples', leave=False, disable=None) as resamples,
        tqdm(total=MOST_SWAPS, desc='swaps at most', leave=False, disable=None) as swaps,
    ):
        comparisons = compare(
            *sides, arguments.resamples, arguments.seed, resamples.update, swaps.update
        )
    if arguments.format == 'json':
        return json.dumps([as_json(each) for each in comparisons], indent=1) + '\n'
    parts = [comparison_text(comparisons)]
    if sides[0][0].task == 'mask_rcnn':
        names = [comparisons[0].a.name, comparisons[0].b.name]
        parts.append(errors_text(names, sides))
    return '\n'.join(parts)


def check_different(a: Sequence[Result], b: Sequence[Result]) -> None:
    """See that two models are two, or one with and without test-time augmentation.

    Raises:
        UserError: some weights are among both, tested in the same way.
    """
    for result, other in product(a, b):
        same = result.weights_sha256 is not None and _tested(result) == _tested(other)
        if same or result.path.resolve() == other.path.resolve():
            raise UserError(f'{result.path} and {other.path} are of the same weights; name two models')


def _tested(result: Result) -> tuple:
    return result.task, result.weights_sha256, result.test_time_augmentation


def runs_at(place: Path, task: str | None = None) -> list[Result]:
    """The results of one experiment, a seed each, furthest in training, in a file or below a folder.

    Raises:
        UserError: there are none of the task, or those of several experiments.
    """
    if place.is_file():
        result = read_result(place)
        if task not in (None, result.task):
            raise UserError(f'{place} is of {result.task}, not of {task}; leave --task out')
        return [result]
    found = [result for result in load_results([place]) if task in (None, result.task)]
    if not found:
        raise UserError(f'{place} has no result of {task}; leave --task out, or name another folder')
    groups = by_experiment(select(found, every=False))
    if len(groups) > 1:
        names = [str(group[0].path.parent) for group in groups]
        more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
        raise UserError(
            f'{place} holds {len(names)} experiments; name the folder of one, such as '
            f'{", ".join(names[:SHOWN])}{more}'
        )
    return groups[0]


def as_json(comparison: Comparison) -> dict:
    """A comparison as JSON, null for what is undefined."""
    return {
        **_without_nan(asdict(comparison)),
        'told_apart': comparison.is_told_apart,
        'sentence': comparison.sentence,
    }


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value
