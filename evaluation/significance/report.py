"""A comparison as text: tables, sentences to quote, errors by kind."""

from collections.abc import Callable, Sequence

import numpy as np

from evaluation.results.result import Result
from evaluation.significance.bootstrap import CONFIDENCE, Interval
from evaluation.significance.comparison import WORDS, Comparison, Model, rounded, signed
from evaluation.significance.error_analysis import CATEGORIES, error_costs, error_counts
from evaluation.significance.loading import load_evidence
from evaluation.tables.formats import DASH, Cell, Column, Table, to_markdown

# The metrics that a sentence is written about.
QUOTED = ('box_AP', 'mask_AP', 'mIoU', 'top1')


def comparison_text(comparisons: Sequence[Comparison]) -> str:
    """Markdown: a row a metric, then sentences, then how it was computed."""
    table = comparison_table(comparisons)
    sentences = [f'- {each.sentence}' for each in comparisons if each.metric in QUOTED]
    return '\n'.join([to_markdown(table), *sentences, ''])


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Both models and their difference, with intervals."""
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
            Cell(WORDS[each.metric]),
            Cell(model_text(each.a, each.metric)),
            Cell(model_text(each.b, each.metric)),
            Cell(interval_text(each.difference, each.metric, write=signed)),
            Cell('yes' if each.is_told_apart else 'no'),
        )
        for each in comparisons
    ]
    return Table(f'{names[0]} and {names[1]}', tuple(columns), (tuple(rows),), tuple(notes(first)))


def notes(comparison: Comparison) -> list[str]:
    """How the intervals came about, and what they do not say."""
    how = (
        f'In parentheses: interval of {100 * CONFIDENCE:.0f} % by percentiles, without their bias, of '
        f'{comparison.resamples:,} resamples of {comparison.images:,} images (seed {comparison.seed}), '
        'the same for both models.'
    )
    runs = [model.spread.runs for model in (comparison.a, comparison.b) if model.spread]
    if max(runs, default=1) > 1:
        return [how, 'Figures are means over seeds, with the standard deviation of a single run.']
    return [how, 'One seed each: how much another seed would change is not in these intervals.']


def model_text(model: Model, metric: str) -> str:
    """`22.5 (19.1 to 25.8)`, over several seeds `22.5 ± 0.3 (19.1 to 25.8)`."""
    text = interval_text(model.interval, metric)
    if model.spread is None or model.spread.deviation is None:
        return text
    value, rest = text.split(' ', 1)
    return f'{value} ± {rounded(model.spread.deviation, metric)} {rest}'


def interval_text(interval: Interval, metric: str, write: Callable[[float, str], str] = rounded) -> str:
    """`22.5 (19.1 to 25.8)`, of a difference with signs if `write` is `signed`."""
    if np.isnan(interval.value):
        return DASH
    value, low, high = (write(each, metric) for each in (interval.value, interval.low, interval.high))
    return f'{value} ({low} to {high})'


def errors_text(names: Sequence[str], results: Sequence[Result]) -> str:
    """Markdown: what each kind of error costs two or more detectors, box and mask.

    Args:
        names: of the models.
        results: of each one.
    """
    evidence = [load_evidence(result) for result in results]
    rows = []
    for name, found in zip(names, evidence, strict=True):
        for kind in found.matches:
            costs = error_costs(found, kind)(np.ones(len(found.images), np.int64))
            counts = error_counts(found, kind)
            cells = [
                Cell(f'{costs[each]:.1f} ({counts[each]:,})' if each in counts else f'{costs[each]:.1f}')
                for each in CATEGORIES
            ]
            rows.append((Cell(name), Cell(kind), *cells))
    columns = [Column('Model', 'Model', numeric=False), Column('Overlap', 'Overlap', numeric=False)]
    columns += [Column(each, each) for each in CATEGORIES]
    table = Table('What errors cost', tuple(columns), (tuple(rows),), (ERRORS_NOTE,))
    return to_markdown(table)


ERRORS_NOTE = (
    'Points of AP50 that mending one kind of error would bring, and how many there are (TIDE, arXiv '
    '2008.08115): wrong class; overlap of 0.1 to 0.5; both; a second detection of an object; nothing '
    'there; objects that nothing meets. They do not add up.'
)
