"""Tables of calibration errors."""

from collections.abc import Sequence

import numpy as np

from evaluation.results.result import Result
from evaluation.statistics.bootstrap import CONFIDENCE, Interval
from evaluation.statistics.calibration_figures import calibration_intervals
from evaluation.statistics.result_metrics import load_evidence
from evaluation.tables.columns import identity_columns, interval_text, tables_of
from evaluation.utils.errors import UserError
from evaluation.utils.text_tables import DASH, Cell, Column, Table

NOTES = {
    'ECE': 'ECE: mean distance between confidence and accuracy in 15 bins (arXiv 1706.04599).',
    'LaECE': 'LaECE: mean distance between score and overlap with the object in 25 bins, averaged over '
    'classes (arXiv 2307.00934, with any overlap as in 2405.20459).',
}


def calibration_tables(results: Sequence[Result], resamples: int = 0) -> list[Table]:
    """Return a table of calibration errors for each task and data set that has any.

    Args:
        results: results to show, at least one.
        resamples: number of resamples for intervals; 0 for no intervals.

    Raises:
        UserError: no result has calibration errors, or one lacks its per-image records.
    """
    tables = [
        _table(title, rows, resamples)
        for title, rows in tables_of(results)
        if any(row.calibration for row in rows)
    ]
    if not tables:
        raise UserError(
            '--calibration: no result has calibration errors, which results of earlier versions and of '
            'segmentors with test-time augmentation lack; evaluate the checkpoints again'
        )
    return tables


def _table(title: str, rows: list[Result], resamples: int) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row.calibration or {}))
    identity = identity_columns(rows, with_seed=True)
    headings = [name.replace('_', ' ') for name in names]
    columns = [*(column for column, _ in identity), *(Column(each, each) for each in headings)]
    found = [figures_of(row, resamples) for row in rows]
    cells = tuple(
        (
            *(build(row) for _, build in identity),
            *(
                Cell(interval_text(figures[name], row.task) if name in figures else DASH)
                for name in names
            ),
        )
        for row, figures in zip(rows, found, strict=True)
    )
    notes = [note for kind, note in NOTES.items() if any(h.split()[-1] == kind for h in headings)]
    if resamples:
        notes.append(
            f'In parentheses: {100 * CONFIDENCE:.0f} % confidence interval of the figure expected on as '
            f'many images of this kind, from {resamples:,} resamples.'
        )
    if any(cell.text == DASH for row in cells for cell in row):
        notes.append(f'{DASH}: not stored, or undefined.')
    return Table(f'{title}, calibration errors in percent', tuple(columns), (cells,), tuple(notes))


def figures_of(result: Result, resamples: int) -> dict[str, Interval]:
    """Return the calibration errors of a result, as stated or, with resamples, from its records.

    Raises:
        UserError: the per-image records are needed, but missing or invalid.
    """
    if resamples and result.calibration:
        return calibration_intervals(load_evidence(result), resamples)
    return {
        name: Interval(np.nan if value is None else value, np.nan, np.nan)
        for name, value in (result.calibration or {}).items()
    }
