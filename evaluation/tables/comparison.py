"""Comparisons of models: the output of `tools/compare.py`, and tables of one family against another.

`tools/compare.py` prints a table, sentences to quote, JSON, and a table of errors by type.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import groupby, product
from pathlib import Path

import numpy as np
from tqdm import tqdm

from evaluation.results.published import UNIFIED, is_unified
from evaluation.results.reading import load_results, read_result
from evaluation.results.result import Result
from evaluation.results.selection import by_experiment, chosen, in_order, select, table_of
from evaluation.results.shifted import in_distribution
from evaluation.statistics.bootstrap import CONFIDENCE, Interval, check_resamples
from evaluation.statistics.comparison import (
    Comparison,
    Model,
    compare,
    p_value_text,
    rounded,
    signed,
)
from evaluation.statistics.error_analysis import CATEGORIES, error_costs, error_counts
from evaluation.statistics.randomization import CERTAINTY, LEVEL, MOST_SWAPS
from evaluation.statistics.result_metrics import each_image_once, load_evidence
from evaluation.tables.columns import identity_columns, metric_column, title_of
from evaluation.tables.csv_table import Compared, differences_csv
from evaluation.tables.table import terms
from evaluation.tasks import TASKS, find_metric
from evaluation.utils.errors import UserError
from evaluation.utils.formats import fixed
from evaluation.utils.text_tables import (
    ALMOST,
    DASH,
    DELTA,
    MINUS,
    Cell,
    Column,
    Table,
    to_latex,
    to_markdown,
)

# Maximum number of experiments named in an error message.
SHOWN = 3


def compare_places(arguments: argparse.Namespace) -> str:
    """Run the comparison requested on the command line of `tools/compare.py` and return its output.

    Raises:
        UserError: a place holds no experiment or several, or the two models cannot be compared.
    """
    check_resamples(arguments.resamples)
    sides = [
        runs_at(Path(place), arguments.task, arguments.recipe) for place in (arguments.a, arguments.b)
    ]
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
    if TASKS[sides[0][0].task].overlaps:
        names = [comparisons[0].a.name, comparisons[0].b.name]
        parts.append(errors_text(names, sides))
    return '\n'.join(parts)


def check_different(a: Sequence[Result], b: Sequence[Result]) -> None:
    """Check that two models differ, in their weights or in the use of test-time augmentation.

    Raises:
        UserError: both include the same weights, evaluated in the same way.
    """
    for result, other in product(a, b):
        same = result.weights_sha256 is not None and _tested(result) == _tested(other)
        if same or result.path.resolve() == other.path.resolve():
            raise UserError(
                f'{result.path} and {other.path} have the same weights; choose two different models'
            )


def _tested(result: Result) -> tuple:
    return result.task, result.weights_sha256, result.test_time_augmentation


def runs_at(place: Path, task: str | None = None, recipe: str | None = None) -> list[Result]:
    """Return the results of one experiment: for each seed, the one furthest in training.

    Args:
        place: result file, or folder to search.
        task: key of the requested task; None for any.
        recipe: name of the requested recipe; None for any.

    Raises:
        UserError: no result is found, or results of several experiments.
    """
    if place.is_file():
        return chosen([read_result(place)], task, recipe, f' in {place}')
    found = chosen(load_results([place]), task, recipe, f' in {place}')
    groups = by_experiment(select(in_distribution(found), every=False))
    if len(groups) > 1:
        names = [str(group[0].path.parent) for group in groups]
        more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
        raise UserError(
            f'{place} holds {len(names)} experiments; name the folder of one, such as '
            f'{", ".join(names[:SHOWN])}{more}'
        )
    return groups[0]


def as_json(comparison: Comparison) -> dict:
    """Return a comparison as JSON, with null for undefined values."""
    return {
        **_without_nan(asdict(comparison)),
        'told_apart': comparison.is_told_apart,
        'sentence': comparison.sentence,
    }


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value


def comparison_text(comparisons: Sequence[Comparison]) -> str:
    """Return Markdown: a table with one row per metric and notes on the method, then sentences."""
    table = comparison_table(comparisons)
    sentences = [f'- {each.sentence}' for each in comparisons if find_metric(each.metric).is_primary]
    return '\n'.join([to_markdown(table), *sentences, ''])


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Return a table of both models and their difference, with intervals."""
    first = comparisons[0]
    names = [first.a.name, first.b.name]
    columns = [
        Column('Metric', 'Metric', numeric=False),
        *(Column(name, name) for name in names),
        Column('Difference', 'Difference'),
        Column('Told apart', 'Told apart', numeric=False),
    ]
    rows = [
        (
            Cell(find_metric(each.metric).words),
            Cell(model_text(each.a, each.metric)),
            Cell(model_text(each.b, each.metric)),
            Cell(interval_text(each.difference, each.metric, write=signed)),
            Cell(told_apart_text(each)),
        )
        for each in comparisons
    ]
    return Table(f'{names[0]} and {names[1]}', tuple(columns), (tuple(rows),), tuple(notes(comparisons)))


def told_apart_text(comparison: Comparison) -> str:
    """Return whether two models are told apart, with the p-value."""
    if comparison.test is None:
        return DASH
    answer = 'yes' if comparison.is_told_apart else 'no'
    return f'{answer} ({p_value_text(comparison.test)})'


def notes(comparisons: Sequence[Comparison]) -> list[str]:
    """Return notes on how the intervals and the test were computed, and on their limits."""
    first = comparisons[0]
    how = (
        f'In parentheses: {100 * CONFIDENCE:.0f} % confidence interval of the figure expected on '
        f'{first.images:,} images of this kind, {_method(first)}.'
    )
    undefined = max(each.difference.undefined for each in comparisons)
    if undefined:
        how += f' Resamples in which a figure is undefined are excluded, up to {undefined:,} per figure.'
    test = (
        f'Told apart: p is at most {LEVEL:g} in a paired test that swaps the predictions of the two '
        'models on images where they differ; it does not depend on a seed. If p is estimated from '
        f'random swaps, the upper end of its {100 * CERTAINTY:.0f} % interval must also be at most '
        f'{LEVEL:g}.'
    )
    models = [model for each in comparisons for model in (each.a, each.b)]
    if max((model.spread.runs for model in models if model.spread), default=1) > 1:
        seeds = 'Figures are means over seeds, with the standard deviation of a single run.'
    else:
        seeds = 'One seed per model: the intervals do not include variation between seeds.'
    return [how, test, seeds, *first.cautions]


def _method(comparison: Comparison) -> str:
    if find_metric(comparison.metric).is_share:
        return 'exact (Clopper and Pearson) for each model, Agresti and Min for the difference'
    return (
        f'from {comparison.resamples:,} resamples of the images (seed {comparison.seed}), '
        'the same for both models'
    )


def model_text(model: Model, metric: str) -> str:
    """Return `22.5 (19.1 to 25.8)`, or `22.5 ± 0.3 (19.1 to 25.8)` for several seeds."""
    text = interval_text(model.interval, metric)
    if model.spread is None or model.spread.deviation is None:
        return text
    value, rest = text.split(' ', 1)
    return f'{value} ± {rounded(model.spread.deviation, metric)} {rest}'


def interval_text(interval: Interval, metric: str, write: Callable[[float, str], str] = rounded) -> str:
    """Return `22.5 (19.1 to 25.8)`; use `write=signed` for a difference."""
    if np.isnan(interval.value):
        return DASH
    value = write(interval.value, metric)
    if np.isnan(interval.low):
        return f'{value} ({DASH})'
    return f'{value} ({write(interval.low, metric)} to {write(interval.high, metric)})'


NOTE = (
    'Points of AP50 gained by fixing one type of error, with the number of errors in parentheses (TIDE, '
    'arXiv 2008.08115): wrong class; IoU from 0.1 to 0.5; both; repeated detection of an object; '
    'no object there; objects without a detection. The gains do not add up.'
)
SEEDS_NOTE = 'Means over seeds for models with several seeds.'
UNDEFINED_NOTE = f'{DASH}: undefined, since fixing this type of error would leave no object to count.'


def errors_text(names: Sequence[str], sides: Sequence[Sequence[Result]]) -> str:
    """Return a Markdown table of the AP50 that each type of error costs two or more detectors.

    Args:
        names: names of the models.
        sides: results of each model, one for each seed; the table shows their mean.
    """
    rows = [row for name, runs in zip(names, sides, strict=True) for row in _rows(name, runs)]
    notes = [NOTE]
    if any(len(runs) > 1 for runs in sides):
        notes.append(SEEDS_NOTE)
    if any(cell.text.startswith(DASH) for row in rows for cell in row):
        notes.append(UNDEFINED_NOTE)
    columns = [Column('Model', 'Model', numeric=False), Column('Overlap', 'Overlap', numeric=False)]
    columns += [Column(each, each) for each in CATEGORIES]
    return to_markdown(Table('Cost of errors', tuple(columns), (tuple(rows),), tuple(notes)))


def _rows(name: str, runs: Sequence[Result]) -> list[tuple[Cell, ...]]:
    """Return one row for boxes and one for masks, if there are masks."""
    evidence = [load_evidence(result) for result in runs]
    rows = []
    for kind in evidence[0].matches:
        once = [each_image_once(found) for found in evidence]
        costs = [error_costs(found, kind)(each) for found, each in zip(evidence, once, strict=True)]
        counts = [error_counts(found, kind) for found in evidence]
        cells = [
            Cell(
                _text(
                    np.mean([each[category] for each in costs]), [each.get(category) for each in counts]
                )
            )
            for category in CATEGORIES
        ]
        rows.append((Cell(name), Cell(kind), *cells))
    return rows


def _text(cost: float, counts: Sequence[int | None]) -> str:
    """Return `1.2 (34)`, or `1.2` if errors of this type are not counted."""
    text = fixed(cost, 1) if np.isfinite(cost) else DASH
    return text if None in counts else f'{text} ({int(fixed(np.mean(counts), 0)):,})'


def pairs_against(
    results: Sequence[Result], family: str
) -> list[tuple[Sequence[Result], Sequence[Result]]]:
    """Return pairs of a unified backbone and one of another family, by mixer and scale.

    Both have finished the same training from the same start, and were evaluated in the same way. Each
    side has one run per seed.

    Args:
        results: results to pair.
        family: family of the other side.

    Raises:
        UserError: there is no pair.
    """
    families = {result.contestant.family or UNIFIED for result in results}
    if family == UNIFIED or family not in families:
        known = ', '.join(sorted(families - {UNIFIED})) or 'only unified ones'
        raise UserError(f'no result to compare with is of the family {family!r}; found {known}')
    finished = by_experiment(in_order([each for each in results if each.training.finished]))
    ours = [runs for runs in finished if is_unified(runs[0])]
    theirs = [runs for runs in finished if runs[0].contestant.family == family]
    found = [(a, b) for a, b in product(ours, theirs) if _is_pair(a[0], b[0])]
    if not found:
        raise UserError(
            f'no finished unified result agrees with one of {family} in mixer, scale, '
            'recipe, start, length and data; compare two with tools/compare.py'
        )
    return found


def _is_pair(a: Result, b: Result) -> bool:
    kinds = [(each.contestant.mixer, each.contestant.scale, *terms(each)) for each in (a, b)]
    facts = (a.batch_size, b.batch_size), (a.training_data_sha256, b.training_data_sha256)
    # An unknown fact is not a difference.
    agree = all(None in pair or len(set(pair)) == 1 for pair in facts)
    return None not in kinds[0][:2] and kinds[0] == kinds[1] and agree


def against_text(compared: Sequence[Compared], family: str, format: str) -> str:
    """Return how unified backbones differ from those of a family, as Markdown, LaTeX or CSV."""
    if format == 'csv':
        return differences_csv(compared, family)
    write = {'markdown': to_markdown, 'latex': to_latex}[format]
    groups = groupby(compared, key=lambda pair: table_of(pair[0][0]))
    return '\n'.join(write(_against_table(list(pairs), family)) for _, pairs in groups)


def _against_table(compared: Sequence[Compared], family: str) -> Table:
    rows = [a[0] for a, _, _ in compared]
    names = [metric for metric in TASKS[rows[0].task].primary if metric in rows[0].metrics]
    _, *identity = identity_columns(rows, with_seed=False)
    columns = [
        *(Column(name, name, numeric=False) for name in ('Mixer', 'Scale', 'Against')),
        *(column for column, _ in identity),
    ]
    for name in names:
        columns += [
            metric_column(name, f'{UNIFIED} '),
            metric_column(name, f'{family} '),
            metric_column(name, f'{DELTA} ', r'$\Delta$ '),
        ]
    cells = [
        (
            *(Cell(text) for text in (a[0].contestant.mixer, a[0].contestant.scale)),
            Cell(b[0].contestant.name),
            *(build(a[0]) for _, build in identity),
            *(cell for each in found if each.metric in names for cell in _difference_cells(each)),
        )
        for a, found, b in compared
    ]
    by_scale = groupby(cells, key=lambda row: row[1].text)
    explained = dict.fromkeys(note for _, found, _ in compared for note in notes(found))
    return Table(
        f'{title_of(rows)}, {UNIFIED} against {family}',
        tuple(columns),
        tuple(tuple(group) for _, group in by_scale),
        (f'{DELTA}: {UNIFIED} {MINUS} {family}. {ALMOST}: not told apart.', *explained),
    )


def _difference_cells(comparison: Comparison) -> tuple[Cell, ...]:
    sides = [
        Cell(model_text(model, comparison.metric).partition(' (')[0])
        for model in (comparison.a, comparison.b)
    ]
    text = interval_text(comparison.difference, comparison.metric, write=signed)
    return *sides, Cell(text, mark='' if comparison.is_told_apart else ALMOST)
