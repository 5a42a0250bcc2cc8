"""Tables of mean and standard deviation over seeds."""

from collections.abc import Sequence

from evaluation.results.result import Result, shown_metrics
from evaluation.results.selection import table_of
from evaluation.statistics.experiments import by_experiment, spread
from evaluation.tables.columns import identity_columns, metric_column, printed, title_of, training_text
from evaluation.utils.text_tables import DASH, PLUS_MINUS, Cell, Column, Table

NOTE = 'Mean and sample standard deviation (n - 1 in the denominator) over seeds.'


def seeds_tables(results: Sequence[Result]) -> list[Table]:
    """Return a table for each task and data set that has experiments with several seeds.

    Args:
        results: results in the order of the rows, grouped by task and data set.
    """
    groups: dict[tuple, list[list[Result]]] = {}
    for runs in by_experiment(results):
        if len(runs) > 1:
            groups.setdefault(table_of(runs[0]), []).append(runs)
    return [_table(experiments) for experiments in groups.values()]


def _table(experiments: list[list[Result]]) -> Table:
    metrics = shown_metrics([run for runs in experiments for run in runs])
    identity = identity_columns([runs[0] for runs in experiments], with_seed=False)
    columns = [
        *(column for column, _ in identity),
        Column('Seeds', 'Seeds', numeric=False),
        *(metric_column(metric) for metric in metrics),
        Column('Training', 'Training', numeric=False),
    ]
    rows = [
        (
            *(build(runs[0]) for _, build in identity),
            Cell(', '.join(sorted((str(run.seed) for run in runs), key=lambda seed: (len(seed), seed)))),
            *(_cell(runs, metric) for metric in metrics),
            Cell(training_text(runs[0])),
        )
        for runs in experiments
    ]
    title = title_of([run for runs in experiments for run in runs])
    return Table(f'{title}, over seeds', tuple(columns), (tuple(rows),), (NOTE,))


def _cell(runs: list[Result], metric: str) -> Cell:
    found = spread(runs, metric)
    if found is None:
        return Cell(DASH)
    task = runs[0].task
    return Cell(f'{printed(found.mean, task)} {PLUS_MINUS} {printed(found.deviation, task)}')
