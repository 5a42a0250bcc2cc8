"""Tables of results: one for each task and data set, with published figures beside ours."""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from types import MappingProxyType

from evaluation.analysis.results import AnalysisFigures, figures_of, newest_of
from evaluation.results.published import Entry
from evaluation.results.result import Flops, Result, shown_metrics
from evaluation.results.selection import (
    SizeClass,
    by_experiment,
    in_order,
    size_classes,
    spread,
    table_of,
)
from evaluation.statistics.bootstrap import CONFIDENCE, Interval
from evaluation.statistics.comparison import Uncertainty
from evaluation.tables.columns import (
    Builder,
    identity_columns,
    metric_column,
    printed,
    tables_of,
    title_of,
    training_text,
    variant_notes,
)
from evaluation.tables.csv_table import to_csv
from evaluation.tables.published_figures import (
    figures_notes,
    published_columns,
    published_rows,
    rows_note,
)
from evaluation.tasks import find_metric
from evaluation.utils.formats import fixed
from evaluation.utils.text_tables import (
    ALMOST,
    DASH,
    DELTA,
    DOUBLE_DAGGER,
    PLUS_MINUS,
    SECTION,
    Cell,
    Column,
    Table,
    escape_latex,
    to_latex,
    to_markdown,
)

WRITERS = {'markdown': to_markdown, 'latex': to_latex}
FORMATS = (*WRITERS, 'csv')


def render(
    results: Sequence[Result],
    published: Sequence[Entry],
    format: str,
    analyses: Sequence[AnalysisFigures] = (),
    uncertainty: Mapping[Path, Uncertainty] | None = None,
    field: Sequence[Entry] = (),
) -> str:
    """Return `results` as tables, in a fixed order.

    Args:
        results: results to show, at least one.
        published: published figures to compare with; may be empty.
        format: one of `FORMATS`. Markdown and LaTeX hold one table for each task and data set, with
            rounded numbers; CSV holds the unrounded results of one task.
        analyses: analyses of the same weights, for additional columns.
        uncertainty: uncertainty of each result, by path, to show intervals.
        field: published results to show as rows among the results of the same recipe.

    Raises:
        UserError: the format is CSV and the results belong to several tasks.
    """
    if not results:
        raise ValueError('no results')
    if format == 'csv':
        return to_csv(in_order(results), published, analyses, uncertainty or {}, field)
    tables = build_tables(results, published, analyses, uncertainty or {}, field)
    return '\n'.join(WRITERS[format](table) for table in [*tables, *seeds_tables(in_order(results))])


def build_tables(
    results: Sequence[Result],
    published: Sequence[Entry],
    analyses: Sequence[AnalysisFigures] = (),
    uncertainty: Mapping[Path, Uncertainty] = MappingProxyType({}),
    field: Sequence[Entry] = (),
) -> list[Table]:
    """Return one table for each task and data set, with published data sets first."""
    return [
        _build_table(title, rows, published, analyses, uncertainty, field)
        for title, rows in tables_of(results)
    ]


def _build_table(
    title: str,
    rows: list[Result],
    published: Sequence[Entry],
    analyses: Sequence[AnalysisFigures],
    uncertainty: Mapping[Path, Uncertainty],
    field: Sequence[Entry],
) -> Table:
    builders = [
        *identity_columns(rows, with_seed=True),
        *_size_columns(),
        *(_metric_column(metric, rows, uncertainty) for metric in shown_metrics(rows)),
        *published_columns(rows, published, uncertainty),
        *_analysis_columns(rows, analyses),
        (Column('Training', 'Training', numeric=False), _training_cell),
    ]
    columns = tuple(column for column, _ in builders)
    among = published_rows(rows, field)
    groups = _groups(rows, builders, [(row.size, row.cells(columns)) for row in among])
    return Table(
        title=title,
        columns=columns,
        groups=groups,
        notes=(
            *_notes(rows, published, groups),
            *rows_note(among),
            *_uncertainty_notes(rows, uncertainty),
            *_analysis_notes(rows, analyses),
        ),
    )


def _groups(
    rows: Sequence[Result],
    builders: Sequence[Builder],
    published: Sequence[tuple[SizeClass, tuple[Cell, ...]]],
) -> tuple[tuple[tuple[Cell, ...], ...], ...]:
    """Return the cells of all rows by size class, with published rows after those of results."""
    sizes = size_classes(rows)
    cells = [(sizes[row.path], tuple(build(row) for _, build in builders)) for row in rows]
    # Sorting is stable.
    ordered = sorted([*cells, *published], key=lambda pair: pair[0])
    return tuple(
        tuple(row for _, row in group) for _, group in groupby(ordered, key=lambda pair: pair[0])
    )


def _size_columns() -> list[Builder]:
    parameters = Column('Params (M)', 'Params (M)')
    return [
        (parameters, lambda row: Cell(fixed(row.total_parameters / 1e6, 1))),
        (Column('FLOPs (G)', 'FLOPs (G)'), _flops_cell),
    ]


def _flops_cell(row: Result) -> Cell:
    if row.flops is None:
        return Cell(DASH)
    return Cell(fixed(row.flops.count / 1e9, 1), mark=SECTION if row.flops.uncounted_operators else '')


def _metric_column(metric: str, rows: list[Result], uncertainty: Mapping[Path, Uncertainty]) -> Builder:
    best = winners(metric, rows)

    def build(row: Result) -> Cell:
        value = printed(row.metrics.get(metric), row.task)
        if value is None:
            return Cell(DASH)
        own = best.get(row.path, [])
        is_best = row in own
        text, mark = str(value), ''
        if uncertainty:
            text = f'{value} {_interval_text(uncertainty[row.path].intervals[metric], row.task)}'
            mark = ALMOST if not is_best and is_tied(row, metric, own, uncertainty) else ''
        return Cell(text, bold=is_best, mark=mark)

    return metric_column(metric), build


def _interval_text(found: Interval, task: str) -> str:
    if math.isnan(found.low):
        return f'({DASH})'
    return f'({printed(found.low, task)} to {printed(found.high, task)})'


def _analysis_columns(rows: list[Result], analyses: Sequence[AnalysisFigures]) -> list[Builder]:
    """Return a column for each figure found by an analysis of a row's weights."""
    found = [figures_of(analyses, row.weights_sha256) for row in rows]
    headings = dict.fromkeys(heading for figures in found for heading in figures)
    return [_analysis_column(heading, analyses) for heading in headings]


def _analysis_column(heading: str, analyses: Sequence[AnalysisFigures]) -> Builder:
    def build(row: Result) -> Cell:
        value = figures_of(analyses, row.weights_sha256).get(heading)
        return Cell(DASH if value is None else fixed(value, 1))

    return Column(heading, escape_latex(heading)), build


def _analysis_notes(rows: list[Result], analyses: Sequence[AnalysisFigures]) -> list[str]:
    shown = [each for row in rows for each in newest_of(analyses, row.weights_sha256)]
    return [*dict.fromkeys(analysis.note for analysis in shown)]


def _training_cell(row: Result) -> Cell:
    return Cell(training_text(row), mark='' if row.training.finished else DOUBLE_DAGGER)


def _uncertainty_notes(rows: list[Result], uncertainty: Mapping[Path, Uncertainty]) -> list[str]:
    if not uncertainty:
        return []
    images = sorted({row.images for row in rows})
    resamples = len(next(iter(uncertainty[rows[0].path].samples.values())))
    is_exact = find_metric(rows[0].headline_metrics[0]).is_share
    method = 'exact' if is_exact else f'from {resamples:,} resamples'
    found = [each for row in rows for each in uncertainty[row.path].intervals.values()]
    none = f' ({DASH}): too few images.' if any(math.isnan(each.low) for each in found) else ''
    counts = ' or '.join(f'{count:,}' for count in images)
    return [
        f'In parentheses: {100 * CONFIDENCE:.0f} % confidence interval of the figure expected on '
        f'{counts} images of this kind, {method}.{none} {ALMOST}: cannot be told apart from the best '
        f'by a paired test; in {DELTA} columns, the published figure lies inside our interval. '
        'None of this includes variation between seeds.'
    ]


def _notes(rows: list[Result], published: Sequence[Entry], groups: tuple) -> list[str]:
    notes = _flops_notes([row.flops for row in rows if row.flops])
    notes += variant_notes({row.variant for row in rows})
    if any(cell.bold for group in groups for row in group for cell in row):
        is_told = any(row.variant for row in rows) or len({row.recipe.name for row in rows}) > 1
        variant = 'recipe, ' if is_told else ''
        size = 'size' if any(row.contestant.scale is None for row in rows) else 'scale'
        notes.append(
            f'Bold: best of each {size}, among finished runs with the same {variant}start, length, '
            'images and use of test-time augmentation.'
        )
        if any(row.data_sha256 is None for row in rows if row.training.finished):
            notes.append(
                'Some results have no digest of their annotations (data.sha256); their annotations are '
                'assumed to be the same.'
            )
    notes += figures_notes(rows, published)
    if not all(row.training.finished for row in rows):
        notes.append(f'{DOUBLE_DAGGER} Training not finished, or not known to be finished.')
    return notes


def _flops_notes(counted: Sequence[Flops]) -> list[str]:
    sizes = sorted({(flops.height, flops.width) for flops in counted})
    missing = sorted({operator for flops in counted for operator in flops.uncounted_operators})
    notes = []
    if sizes:
        where = ' and '.join(f'{height}x{width}' for height, width in sizes)
        notes.append(
            f'FLOPs: multiply-adds, each counted once, on an image of {where} (height x width).'
        )
    if missing:
        notes.append(f'{SECTION} Excludes operators without a FLOP formula: {", ".join(missing)}.')
    return notes


def contests(rows: Sequence[Result]) -> dict[Path, tuple]:
    """Return a key for each row; rows with the same key are comparable. Unfinished runs have no entry.

    Args:
        rows: rows of one table.
    """
    sizes = size_classes(rows)
    return {row.path: (sizes[row.path], *terms(row)) for row in rows if row.training.finished}


def terms(row: Result) -> tuple:
    """Return the facts of training and evaluation in which comparable finished results agree."""
    return (
        row.recipe.name,
        row.training.unit,
        row.training.total,
        row.start,
        row.variant,
        row.images,
        row.data_sha256,
        # The digest of the annotations does not cover which of their classes were evaluated.
        frozenset(name for values in row.per_class.values() for name in values),
        row.test_time_augmentation,
    )


def winners(metric: str, rows: Sequence[Result]) -> dict[Path, list[Result]]:
    """Return for each row the best comparable rows by printed value; rows without a rival are omitted.

    Args:
        metric: name of the metric.
        rows: rows of one table.
    """
    values: dict[tuple, list[tuple[Decimal, Result]]] = {}
    entered = contests(rows)
    for row in rows:
        value = printed(row.metrics.get(metric), row.task)
        if row.path in entered and value is not None:
            values.setdefault(entered[row.path], []).append((value, row))
    best = {
        contest: [row for value, row in found if value == max(other for other, _ in found)]
        for contest, found in values.items()
        if len(found) > 1
    }
    return {path: best[contest] for path, contest in entered.items() if contest in best}


def is_tied(row: Result, metric: str, best: Sequence[Result], known: Mapping[Path, Uncertainty]) -> bool:
    """Return whether a row cannot be told apart from one of the best comparable rows.

    Args:
        row: row of a table with intervals.
        metric: name of the metric.
        best: best comparable rows, from `winners`.
        known: uncertainty of each row, by path.
    """
    return False in [known[row.path].is_told_from(known[each.path], metric) for each in best]


SEEDS_NOTE = 'Mean and sample standard deviation (n - 1 in the denominator) over seeds.'


def seeds_tables(results: Sequence[Result]) -> list[Table]:
    """Return a table for each task and data set that has experiments with several seeds.

    Args:
        results: results in the order of the rows, grouped by task and data set.
    """
    groups: dict[tuple, list[list[Result]]] = {}
    for runs in by_experiment(results):
        if len(runs) > 1:
            groups.setdefault(table_of(runs[0]), []).append(runs)
    return [_seeds_table(experiments) for experiments in groups.values()]


def _seeds_table(experiments: list[list[Result]]) -> Table:
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
            *(_seeds_cell(runs, metric) for metric in metrics),
            Cell(training_text(runs[0])),
        )
        for runs in experiments
    ]
    title = title_of([run for runs in experiments for run in runs])
    return Table(f'{title}, over seeds', tuple(columns), (tuple(rows),), (SEEDS_NOTE,))


def _seeds_cell(runs: list[Result], metric: str) -> Cell:
    found = spread(runs, metric)
    if found is None:
        return Cell(DASH)
    task = runs[0].task
    return Cell(f'{printed(found.mean, task)} {PLUS_MINUS} {printed(found.deviation, task)}')
