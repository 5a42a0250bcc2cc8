"""A comparison as text: a table, and sentences to quote."""

from collections.abc import Callable, Sequence

import numpy as np

from evaluation.statistics.bootstrap import CONFIDENCE, Interval
from evaluation.statistics.comparison import (
    WORDS,
    Comparison,
    Model,
    p_value_text,
    rounded,
    signed,
)
from evaluation.statistics.metrics import GUESSES_OF
from evaluation.statistics.randomization import CERTAINTY, LEVEL
from evaluation.utils.text_tables import DASH, Cell, Column, Table, to_markdown

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
            Cell(told_apart_text(each)),
        )
        for each in comparisons
    ]
    return Table(f'{names[0]} and {names[1]}', tuple(columns), (tuple(rows),), tuple(notes(comparisons)))


def told_apart_text(comparison: Comparison) -> str:
    """Whether two models are told apart, and the p-value."""
    if comparison.test is None:
        return DASH
    answer = 'yes' if comparison.is_told_apart else 'no'
    return f'{answer} ({p_value_text(comparison.test)})'


def notes(comparisons: Sequence[Comparison]) -> list[str]:
    """How the intervals and the test came about, and what they do not say."""
    first = comparisons[0]
    how = (
        f'In parentheses: interval of {100 * CONFIDENCE:.0f} % for the figure expected on '
        f'{first.images:,} images of this kind, {_method(first)}.'
    )
    undefined = max(each.difference.undefined for each in comparisons)
    if undefined:
        how += f' Resamples in which a figure is undefined are left out, up to {undefined:,}.'
    test = (
        f'Told apart: p is at most {LEVEL:g} in a paired test that swaps the predictions of the two '
        'models on images where they differ; it does not depend on a seed. Where random swaps estimate '
        f'p, the upper end of its {100 * CERTAINTY:.0f} % interval must be at most {LEVEL:g}, too.'
    )
    models = [model for each in comparisons for model in (each.a, each.b)]
    if max((model.spread.runs for model in models if model.spread), default=1) > 1:
        seeds = 'Figures are means over seeds, with the standard deviation of a single run.'
    else:
        seeds = 'One seed each: how much another seed would change is not in these intervals.'
    return [how, test, seeds, *first.cautions]


def _method(comparison: Comparison) -> str:
    if comparison.metric in GUESSES_OF:
        return 'exact for one model (Clopper and Pearson), and for the difference by Agresti and Min'
    return (
        f'by {comparison.resamples:,} resamples of the images (seed {comparison.seed}), '
        'the same for both models'
    )


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
    value = write(interval.value, metric)
    if np.isnan(interval.low):
        return f'{value} ({DASH})'
    return f'{value} ({write(interval.low, metric)} to {write(interval.high, metric)})'
