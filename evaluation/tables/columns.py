"""Table columns: metrics with headings and rounding as in papers, and columns that identify rows."""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import groupby

from evaluation.results.published import is_published_data_set, is_whole_data_set
from evaluation.results.result import Result
from evaluation.results.selection import in_order, table_of
from evaluation.statistics.bootstrap import Interval
from evaluation.tasks import FAIR, RELEASED, TASKS, find_metric
from evaluation.utils.formats import fixed
from evaluation.utils.text_tables import DASH, MINUS, Cell, Column


def metric_column(name: str, prefix: str = '', latex_prefix: str | None = None) -> Column:
    """Return the column of a metric, optionally with a prefix before its heading.

    Args:
        name: name of the metric.
        prefix: text before the heading.
        latex_prefix: prefix in LaTeX, if different.
    """
    metric = find_metric(name)
    before = prefix if latex_prefix is None else latex_prefix
    return Column(prefix + metric.heading, before + metric.latex)


def printed(value: float | None, task: str) -> Decimal | None:
    """Round to the printed digits, so that ties and differences match what a reader sees."""
    return None if value is None else Decimal(fixed(value, TASKS[task].digits))


def interval_text(found: Interval, task: str) -> str:
    """Return a figure and its interval, if it has one, such as `40.1 (39.2 to 41.0)`."""
    if math.isnan(found.value):
        return DASH
    value, *ends = (
        str(printed(each, task)).replace('-', MINUS)
        for each in (found.value, found.low, found.high)
        if not math.isnan(each)
    )
    return f'{value} ({" to ".join(ends)})' if ends else value


def title_of(results: Sequence[Result]) -> str:
    """Return the title of a table of results, all of one task and data set."""
    task = TASKS[results[0].task]
    is_whole = all(result.headline_metrics == task.headlines for result in results)
    recipe, title = results[0].recipe, results[0].recipe.title
    # A recipe defined in a separate page or in a leaf already has a fitting title.
    if not is_whole and task.earlier and title == task.earlier.recipe.title:
        title = task.optional.title
    return ', '.join(filter(None, (f'{title} on {results[0].dataset}', recipe.setting)))


def tables_of(results: Sequence[Result]) -> list[tuple[str, list[Result]]]:
    """Return title and rows of every table, with tables of published data sets first.

    If tables of different tasks or data would get the same title, their titles also name the recipes.
    """
    groups = [list(rows) for _, rows in groupby(in_order(results), key=table_of)]
    titles = [title_of(rows) for rows in groups]
    return [
        (title if titles.count(title) == 1 else f'{title} ({_recipes_text(rows)})', rows)
        for title, rows in zip(titles, groups, strict=True)
    ]


def _recipes_text(rows: Sequence[Result]) -> str:
    return ', '.join(sorted({row.recipe.name for row in rows}))


Builder = tuple[Column, Callable[[Result], Cell]]

# Number of digits of a digest to show.
_SHOWN = 7
# Added in this order while some rows still look the same.
_DETAILS: tuple[tuple[str, Callable[[Result], object]], ...] = (
    ('Images', lambda row: row.images),
    ('Batch', lambda row: row.batch_size),
    ('AMP', lambda row: row.mixed_precision),
    ('Scaled LR', lambda row: row.learning_rate_scaled),
    ('Training data', lambda row: _short(row.training_data_sha256)),
    ('Data', lambda row: _short(row.data_sha256)),
    ('Settings', lambda row: _short(row.config_sha256)),
)


def identity_columns(rows: Sequence[Result], with_seed: bool) -> list[Builder]:
    """Return the backbone column and the columns needed to tell rows apart (config, seed, start, ...).

    Args:
        rows: results of one task and data set.
        with_seed: whether each row shows a single seed.
    """
    columns = [_text('Backbone', lambda row: row.contestant.name)]
    if _differ_in(rows, lambda row: row.config):
        columns.append(_text('Config', lambda row: row.config))
    if with_seed and _differ_in(rows, lambda row: row.seed):
        columns.append(_text('Seed', lambda row: row.seed, numeric=True))
    names, variants = {row.recipe.name for row in rows}, {row.variant for row in rows}
    if len(names) > 1 or len(variants) > 1:
        columns.append(_text('Recipe', lambda row: _recipe_text(row, len(names) > 1)))
    if any(row.initialization for row in rows):
        columns.append(_text('Start', lambda row: row.start))
    if any(row.test_time_augmentation for row in rows):
        columns.append(_text('TTA', lambda row: row.test_time_augmentation))
    alike = [(*_look(row), row.config, row.seed if with_seed else None) for row in rows]
    for heading, value in _DETAILS:
        told_apart = [(*before, value(row)) for before, row in zip(alike, rows, strict=True)]
        is_part_shown = heading == 'Images' and any(map(is_part, rows))
        if is_part_shown or len(set(told_apart)) > len(set(alike)):
            columns.append(_text(heading, value, numeric=heading in ('Images', 'Batch')))
            alike = told_apart
    return columns


VARIANT_NOTES = {
    FAIR: 'Recipe: fair (weight decay on the same kinds of parameters for all mixers).',
    RELEASED: 'Recipe: released (weight decay by parameter names and shapes, as in the released code).',
}


def variant_notes(variants: set[str | None]) -> list[str]:
    """Return a note that names the recipe if all rows share one, so that no column shows it."""
    (variant,) = variants if len(variants) == 1 else (None,)
    return [VARIANT_NOTES[variant]] if variant in VARIANT_NOTES else []


def training_text(row: Result) -> str:
    """Return how far training got, such as `epoch 12/12`."""
    training = row.training
    if training.done is None and training.total is None:
        return DASH
    done = DASH if training.done is None else training.done
    return f'{training.unit} {done}' + ('' if training.total is None else f'/{training.total}')


def is_part(row: Result) -> bool:
    """Return whether a result covers only part of its data set, so that the table must say so."""
    return row.images_skipped > 0 or (is_published_data_set(row) and not is_whole_data_set(row))


def _differ_in(rows: Sequence[Result], value: Callable[[Result], object]) -> bool:
    """Return whether rows that otherwise look the same differ in this value."""
    alike = [_look(row) for row in rows]
    return len(set(zip(alike, map(value, rows), strict=True))) > len(set(alike))


def _recipe_text(row: Result, with_name: bool) -> str | None:
    parts = (row.recipe.name if with_name else None, row.variant)
    return ', '.join(filter(None, parts)) or None


def _look(row: Result) -> tuple:
    """Return the values of a row that every table shows, always or if rows differ in them."""
    own = row.contestant.name, row.recipe.name, row.variant
    return *own, row.training, row.start, row.test_time_augmentation


def _text(heading: str, value: Callable[[Result], object], numeric: bool = False) -> Builder:
    def build(row: Result) -> Cell:
        found = value(row)
        if isinstance(found, bool):
            return Cell('yes' if found else 'no')
        return Cell(DASH if found is None else str(found))

    return Column(heading, heading, numeric), build


def _short(digest: str | None) -> str | None:
    return digest and digest[:_SHOWN]
