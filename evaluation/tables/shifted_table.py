"""Tables of figures in distribution beside those under distribution shift."""

from collections.abc import Callable, Sequence
from itertools import groupby

from evaluation.results.result import Result
from evaluation.results.selection import table_of
from evaluation.results.shifted import ShiftedRun, shifted_runs
from evaluation.statistics.bootstrap import CONFIDENCE
from evaluation.statistics.shifted_figures import ShiftedFigures, with_intervals, without_intervals
from evaluation.tables.columns import identity_columns, interval_text, title_of
from evaluation.tasks import find_metric
from evaluation.utils.errors import warn
from evaluation.utils.text_tables import Cell, Column, Table


def shifted_tables(
    results: Sequence[Result],
    resamples: int = 0,
    every: bool = False,
    on_problem: Callable[[str], None] = warn,
) -> list[Table]:
    """Return a table for each suite and data set in distribution.

    Args:
        results: results in distribution and of domains.
        resamples: number of resamples for intervals; 0 for no intervals.
        every: whether to show all tests of the same setup and seed.
        on_problem: called with a message for each incomplete test, which is left out.

    Raises:
        UserError: per-image records for intervals are missing or invalid.
    """
    runs = shifted_runs(results, every, on_problem)
    return [
        _table(list(own), resamples)
        for _, own in groupby(runs, key=lambda run: (run.suite.key, table_of(run.inside)))
    ]


def _table(runs: list[ShiftedRun], resamples: int) -> Table:
    suite, rows = runs[0].suite, [run.inside for run in runs]
    identity = identity_columns(rows, with_seed=True)
    word = find_metric(suite.metric).heading
    headings = [word, *suite.domains, f'{suite.title} mean', 'ER']
    columns = [*(column for column, _ in identity), *(Column(each, each) for each in headings)]
    figures = [with_intervals(run, resamples) if resamples else without_intervals(run) for run in runs]
    cells = tuple(
        (*(build(run.inside) for _, build in identity), *_cells(found, run.inside.task))
        for run, found in zip(runs, figures, strict=True)
    )
    return Table(
        f'{title_of(rows)}, in distribution beside {suite.title}',
        tuple(columns),
        (cells,),
        (*_notes(runs, resamples),),
    )


def _cells(found: ShiftedFigures, task: str) -> list[Cell]:
    shown = [found.inside, *found.domains.values(), found.mean, found.effective_robustness]
    return [Cell(interval_text(each, task)) for each in shown]


def _notes(runs: Sequence[ShiftedRun], resamples: int) -> list[str]:
    suite = runs[0].suite
    word = find_metric(suite.metric).words
    counts = sorted({sum(result.images for result in run.domains.values()) for run in runs})
    notes = [
        f'{suite.title} ({suite.source}): {word} on each domain and its mean over the '
        f'{len(suite.domains)} domains, {" or ".join(f"{count:,}" for count in counts)} images. ER, '
        f'effective robustness: this mean minus {suite.slope:g} times the {word} in distribution, '
        'a factor for the classes of COCO; with other classes, compare ER only between your own models.'
    ]
    if resamples:
        notes.append(
            f'In parentheses: {100 * CONFIDENCE:.0f} % confidence interval, from {resamples:,} '
            'resamples of the images of each data set.'
        )
    return notes
