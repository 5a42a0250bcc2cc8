"""Which rows of a table compete, and the best of each contest."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from evaluation.results.result import Result
from evaluation.results.selection import size_classes
from evaluation.statistics.comparison import Uncertainty
from evaluation.tables.columns import printed


def contests(rows: Sequence[Result]) -> dict[Path, tuple]:
    """Return what rows share with those that they are compared with; unfinished runs have no entry.

    Args:
        rows: of one table.
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
            # The digest of the annotations does not tell which of their classes were evaluated.
            frozenset(name for values in row.per_class.values() for name in values),
            row.test_time_augmentation,
        )
        for row in rows
        if row.training.finished
    }


def winners(metric: str, rows: Sequence[Result]) -> dict[Path, list[Result]]:
    """Return the best rows, as printed, of the contest of each row; of contests with two or more rows.

    Args:
        metric: which figure.
        rows: of one table.
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
    """Return whether a row's figure cannot be told from those of the best of its contest.

    Args:
        row: of a table with intervals.
        metric: which figure.
        best: see `winners`.
        known: uncertainty of each row, by its path.
    """
    return False in [known[row.path].is_told_from(known[each.path], metric) for each in best]
