"""Curves of several models as a table of a few figures."""

import math
from collections.abc import Collection, Sequence

from evaluation.analysis.invariance.result import Result
from evaluation.utils.rounding import fixed
from evaluation.utils.text_tables import DASH, Cell, Column, Table

NOTE = (
    'In percent. Unchanged: of the images as they are. Mean and least: over the strengths of the '
    'transform. Consistency is with the predictions for the unchanged images.'
)


def curve_table(results: Sequence[Result]) -> Table:
    """A group of rows for each model, a row for each transform."""
    # A detector without masks shows fewer.
    shown = list(dict.fromkeys(name for result in results for name in result.shown))
    unchanged = {name for result in results for name in result.unchanged}
    headings = ['Model', 'Transform', 'Strengths']
    for name in shown:
        headings += [f'{name} unchanged'] if name in unchanged else []
        headings += [f'{name} mean', f'{name} least']
    return Table(
        title=f'Invariance, {results[0].subject["task"]}{results[0].mark}',
        columns=tuple(
            Column(heading, heading, numeric=heading not in ('Model', 'Transform'))
            for heading in headings
        ),
        groups=tuple(tuple(_rows(result, shown, unchanged)) for result in results),
        notes=(NOTE,),
    )


def _rows(result: Result, shown: Sequence[str], unchanged: Collection[str]):
    for transform, curve in result.curves.items():
        texts = [result.name, transform, f'{curve.strengths[0]:g} to {curve.strengths[-1]:g}']
        for name in shown:
            values = [v for v in curve.metrics.get(name, ()) if not math.isnan(v)]
            texts += [percent(result.unchanged.get(name, math.nan))] if name in unchanged else []
            mean = math.fsum(values) / len(values) if values else math.nan
            texts += [percent(mean), percent(min(values, default=math.nan))]
        yield tuple(map(Cell, texts))


def percent(value: float) -> str:
    """A figure that is in percent already."""
    return DASH if math.isnan(value) else fixed(value, 1)
