"""Tables of results: one for each task and data set, with published figures beside ours."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType

from evaluation.analysis.results import AnalysisFigures, figures_of, newest_of
from evaluation.results.published import (
    Entry,
    Figure,
    differs_in_recipe,
    find_figure,
    is_another_network,
    is_recipe_unknown,
    why_not_compared,
)
from evaluation.results.result import Flops, Result, shown_metrics
from evaluation.results.selection import by_experiment, in_order, size_classes, spread, table_of
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
from evaluation.tables.contests import is_tied, winners
from evaluation.tables.csv_table import to_csv
from evaluation.tasks import TASKS, find_metric
from evaluation.utils.formats import fixed
from evaluation.utils.text_tables import (
    ALMOST,
    DAGGER,
    DASH,
    DELTA,
    DOUBLE_DAGGER,
    MINUS,
    PILCROW,
    PLUS_MINUS,
    SECTION,
    Cell,
    Column,
    Table,
    escape_latex,
    to_latex,
    to_markdown,
)

FORMATS = ('markdown', 'latex', 'csv')


def render(
    results: Sequence[Result],
    published: Sequence[Entry],
    format: str,
    analyses: Sequence[AnalysisFigures] = (),
    uncertainty: Mapping[Path, Uncertainty] | None = None,
) -> str:
    """Return `results` as tables, in a fixed order.

    Args:
        results: results to show, at least one.
        published: published figures to compare with; may be empty.
        format: one of `FORMATS`. Markdown and LaTeX hold one table for each task and data set, with
            rounded numbers; CSV holds the unrounded results of one task.
        analyses: analyses of the same weights, for additional columns.
        uncertainty: uncertainty of each result, by path, to show intervals.

    Raises:
        UserError: the format is CSV and the results belong to several tasks.
    """
    if not results:
        raise ValueError('no results')
    if format == 'csv':
        return to_csv(in_order(results), published, analyses, uncertainty or {})
    write = {'markdown': to_markdown, 'latex': to_latex}[format]
    tables = build_tables(results, published, analyses, uncertainty or {})
    return '\n'.join(write(table) for table in [*tables, *seeds_tables(in_order(results))])


def build_tables(
    results: Sequence[Result],
    published: Sequence[Entry],
    analyses: Sequence[AnalysisFigures] = (),
    uncertainty: Mapping[Path, Uncertainty] = MappingProxyType({}),
) -> list[Table]:
    """Return one table for each task and data set, with published data sets first."""
    return [
        _build_table(title, rows, published, analyses, uncertainty) for title, rows in tables_of(results)
    ]


def _build_table(
    title: str,
    rows: list[Result],
    published: Sequence[Entry],
    analyses: Sequence[AnalysisFigures],
    uncertainty: Mapping[Path, Uncertainty],
) -> Table:
    builders = [
        *identity_columns(rows, with_seed=True),
        *_size_columns(),
        *(_metric_column(metric, rows, uncertainty) for metric in shown_metrics(rows)),
        *_published_columns(rows, published, uncertainty),
        *_analysis_columns(rows, analyses),
        (Column('Training', 'Training', numeric=False), _training_cell),
    ]
    sizes = size_classes(rows)
    groups = tuple(
        tuple(tuple(build(row) for _, build in builders) for row in group)
        for _, group in groupby(rows, key=lambda row: sizes[row.path])
    )
    return Table(
        title=title,
        columns=tuple(column for column, _ in builders),
        groups=groups,
        notes=(
            *_notes(rows, published, groups),
            *_uncertainty_notes(rows, uncertainty),
            *_analysis_notes(rows, analyses),
        ),
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


def _published_columns(
    rows: list[Result], published: Sequence[Entry], uncertainty: Mapping[Path, Uncertainty]
) -> list[Builder]:
    """Return columns of published figures and differences (ours - published); empty without figures."""
    if not _figures(rows, published):
        return []
    return [
        column
        for metric in TASKS[rows[0].task].primary
        for column in _comparison_columns(metric, published, uncertainty)
    ]


def _comparison_columns(
    metric: str, published: Sequence[Entry], uncertainty: Mapping[Path, Uncertainty]
) -> list[Builder]:
    def build_figure(row: Result) -> Cell:
        figure = find_figure(published, row, metric)
        if figure is None:
            return Cell(DASH)
        mark = DAGGER if is_another_network(row, figure) else ''
        mark = PILCROW if differs_in_recipe(row, figure) else mark
        return Cell(str(printed(figure.value, row.task)), mark=mark)

    def build_difference(row: Result) -> Cell:
        figure = find_figure(published, row, metric)
        ours = printed(row.metrics.get(metric), row.task)
        if figure is None or ours is None:
            return Cell(DASH)
        difference = ours - printed(figure.value, row.task)
        text = f'{difference:+}'.replace('-', MINUS) if difference else str(abs(difference))
        step = 10.0 ** -TASKS[row.task].digits
        is_tied = uncertainty and uncertainty[row.path].covers(metric, figure.value, step)
        return Cell(text, mark=ALMOST if is_tied else '')

    return [
        (metric_column(metric, 'published '), build_figure),
        (metric_column(metric, f'{DELTA} ', r'$\Delta$ '), build_difference),
    ]


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


def _analysis_notes(rows: list[Result], analyses: Sequence[AnalysisFigures]) -> list[str]:
    shown = [each for row in rows for each in newest_of(analyses, row.weights_sha256)]
    return [*dict.fromkeys(analysis.note for analysis in shown)]


def _training_cell(row: Result) -> Cell:
    return Cell(training_text(row), mark='' if row.training.finished else DOUBLE_DAGGER)


def _figures(rows: list[Result], published: Sequence[Entry]) -> list[tuple[Result, Figure]]:
    """Return every published figure shown in the table, with its row."""
    found = (
        (row, find_figure(published, row, metric)) for row in rows for metric in TASKS[row.task].primary
    )
    return [(row, figure) for row, figure in found if figure is not None]


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
    figures = _figures(rows, published)
    if figures:
        notes.append(_source_note(figures))
        if any(is_recipe_unknown(row) for row, _ in figures):
            notes.append(
                'If a result does not record the start or the batch size of its training, the published '
                'one is assumed.'
            )
    notes += not_compared_notes((row.contestant.name, why_not_compared(published, row)) for row in rows)
    if any(row.test_time_augmentation for row, _ in figures):
        notes.append('With test-time augmentation (TTA), the published figure is the multi-scale one.')
    if any(is_another_network(row, figure) for row, figure in figures):
        notes.append(
            f"{DAGGER} Published for a different architecture, the mixer's original network: "
            'the difference is not due to training alone.'
        )
    if any(differs_in_recipe(row, figure) for row, figure in figures):
        notes.append(
            f'{PILCROW} Published for the released recipe, whose weight decay differs from the fair '
            'recipe: part of the difference may be due to weight decay.'
        )
    if not all(row.training.finished for row in rows):
        notes.append(f'{DOUBLE_DAGGER} Training not finished, or not known to be finished.')
    return notes


def not_compared_notes(reasons: Iterable[tuple[str, str | None]]) -> list[str]:
    """Return a note on why rows are not compared with published figures; empty without such rows.

    Args:
        reasons: name of each row, and why it is not compared; None if it is, or if nothing is published.
    """
    # Dictionaries rather than sets: they keep the order of the rows.
    names: dict[str, dict[str, None]] = {}
    for name, reason in reasons:
        if reason is not None:
            names.setdefault(reason, {})[name] = None
    if not names:
        return []
    found = ' '.join(f'{", ".join(each)}: {reason}.' for reason, each in names.items())
    return [f'Not compared with published figures, because the runs differ. {found}']


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


def _source_note(figures: list[tuple[Result, Figure]]) -> str:
    lengths = dict.fromkeys(row.recipe.length for row, _ in figures)
    # Dictionaries rather than sets: they keep the order of the rows.
    backbones: dict[str, dict[str, None]] = {}
    for row, figure in figures:
        backbones.setdefault(figure.source, {})[row.contestant.name] = None
    sources = [
        source if len(backbones) == 1 else f'{source}: {", ".join(names)}'
        for source, names in backbones.items()
    ]
    return (
        f'Published figures, for {" or ".join(lengths)} ({DELTA} = ours {MINUS} published): '
        f'{"; ".join(sources)}.'
    )


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
