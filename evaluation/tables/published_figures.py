"""Published figures in tables: columns beside results, rows among them, and their notes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.results.published import (
    Entry,
    Figure,
    comparable_entries,
    comparable_flops,
    differs_in_recipe,
    find_figure,
    is_another_network,
    is_of_network,
    is_recipe_unknown,
    why_not_compared,
)
from evaluation.results.result import Result, shown_metrics
from evaluation.results.selection import SizeClass, nearest_class, size_classes
from evaluation.statistics.comparison import Uncertainty
from evaluation.tables.columns import Builder, metric_column, printed
from evaluation.tasks import TASKS, Recipe
from evaluation.utils.text_tables import (
    ALMOST,
    DAGGER,
    DASH,
    DELTA,
    MINUS,
    PILCROW,
    RING,
    Cell,
    Column,
)


def published_columns(
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


@dataclass(frozen=True)
class PublishedRow:
    """A row of published figures among those of results.

    Attributes:
        entry: the published figures.
        recipe: recipe of the results that they can be compared with.
        is_augmented: whether the figures use test-time augmentation.
        size: size class, which decides on the place in the table.
    """

    entry: Entry
    recipe: Recipe
    is_augmented: bool
    size: SizeClass

    @property
    def metrics(self) -> dict[str, float]:
        """Published figures by name of the metric."""
        keys = {
            metric.name: metric.published_key(self.is_augmented)
            for metric in TASKS[self.recipe.task].metrics
        }
        figures = self.entry.figures
        return {name: figures[key] for name, key in keys.items() if key in figures}

    def cells(self, columns: Iterable[Column]) -> tuple[Cell, ...]:
        """Return a cell for each column of a table; they never compete with those of results."""
        entry, flops = self.entry, comparable_flops(self.entry, self.recipe)
        known = {
            'Backbone': Cell(entry.model, mark=RING),
            'Recipe': Cell(entry.recipe),
            'Start': Cell(self.recipe.start or DASH),
            'TTA': Cell('yes' if self.is_augmented else 'no'),
            'Params (M)': Cell(_scaled(entry.parameters, 1e6)),
            'FLOPs (G)': Cell(_scaled(flops, 1e9)),
            'Training': Cell('published'),
        }
        for metric, value in self.metrics.items():
            known[metric_column(metric).heading] = Cell(str(printed(value, self.recipe.task)))
        return tuple(known.get(column.heading, Cell(DASH)) for column in columns)


def _scaled(value: float | None, unit: float) -> str:
    """Return a number with the digits of its source."""
    return DASH if value is None else f'{value / unit:.6g}'


def published_rows(rows: Sequence[Result], published: Sequence[Entry]) -> list[PublishedRow]:
    """Return the published results that a table can show among its rows, in their order.

    They have the data set and the recipe of at least one row. Those that stand beside a result of the
    same contestant are left out.

    Args:
        rows: rows of one table.
        published: published figures of any network.
    """
    shown = {metric for metric in shown_metrics(rows) if metric in TASKS[rows[0].task].primary}
    found = {}
    for is_augmented in sorted({row.test_time_augmentation for row in rows}):
        alike = [row for row in rows if row.test_time_augmentation == is_augmented]
        entries = [
            entry
            for entry in comparable_entries(published, alike)
            if not any(_is_beside(entry, row) for row in alike)
        ]
        sizes = _sizes_of(entries, rows)
        recipes = {row.recipe.name: row.recipe for row in alike}
        for entry in entries:
            row = PublishedRow(entry, recipes[entry.recipe], is_augmented, sizes[entry.identity])
            if shown & row.metrics.keys():
                found[entry.identity, is_augmented] = row
    return sorted(found.values(), key=_order)


def _is_beside(entry: Entry, row: Result) -> bool:
    """Return whether the columns of published figures show an entry for a row of the same contestant."""
    return is_of_network(entry, row.contestant) and bool(comparable_entries([entry], [row]))


def _order(row: PublishedRow) -> tuple:
    return row.size, row.entry.parameters or math.inf, row.entry.model, row.is_augmented


def _sizes_of(entries: Sequence[Entry], rows: Sequence[Result]) -> dict[tuple, SizeClass]:
    """Return the size class of each entry: that of its contestant, its scale, or of similar size."""
    own = size_classes(rows)
    contestants = {row.contestant.name: own[row.path] for row in rows}
    scales = {size.name: size for size in own.values() if size.name}
    for entry in entries:
        if entry.scale is not None and entry.scale not in scales:
            alike = [each.parameters for each in entries if each.scale == entry.scale]
            logs = [math.log(parameters) for parameters in alike if parameters]
            mean = math.exp(math.fsum(logs) / len(logs)) if logs else math.inf
            scales[entry.scale] = SizeClass(mean, entry.scale)
    classes = [*own.values(), *scales.values()]
    unknown = SizeClass(math.inf)

    def size_of(entry: Entry) -> SizeClass:
        known = contestants.get(entry.model) or scales.get(entry.scale)
        if known is not None or entry.parameters is None:
            return known or unknown
        return nearest_class(classes, entry.parameters) or SizeClass(entry.parameters)

    return {entry.identity: size_of(entry) for entry in entries}


def rows_note(rows: Sequence[PublishedRow]) -> list[str]:
    """Return a note with the source of each published row; empty without such rows."""
    if not rows:
        return []
    # Dictionaries rather than sets: they keep the order of the rows.
    models: dict[str, dict[str, None]] = {}
    for row in rows:
        models.setdefault(row.entry.source, {})[row.entry.model] = None
    sources = '; '.join(f'{source}: {", ".join(names)}' for source, names in models.items())
    return [
        f'{RING} Published, not measured here: no interval, and not compared for bold print. Cost as '
        f'stated by the source. {sources}.'
    ]


def figures_notes(rows: list[Result], published: Sequence[Entry]) -> list[str]:
    """Return notes on the columns of published figures."""
    figures, notes = _figures(rows, published), []
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


def _figures(rows: list[Result], published: Sequence[Entry]) -> list[tuple[Result, Figure]]:
    """Return every published figure shown in the table, with its row."""
    found = (
        (row, find_figure(published, row, metric)) for row in rows for metric in TASKS[row.task].primary
    )
    return [(row, figure) for row, figure in found if figure is not None]


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
