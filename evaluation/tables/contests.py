"""Groups of comparable table rows, and the best row of each."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from evaluation.results.result import Result
from evaluation.results.selection import size_classes
from evaluation.statistics.comparison import Uncertainty
from evaluation.tables.columns import printed


def contests(rows: Sequence[Result]) -> dict[Path, tuple]:
    """Return a key for each row; rows with the same key are comparable. Unfinished runs have no entry.

    Args:
        rows: rows of one table.
    """
    sizes = size_classes(rows)
    return {
        row.path: (
            sizes[row.path],
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
        for row in rows
        if row.training.finished
    }


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
