"""What errors cost detectors, as a table."""

from collections.abc import Sequence

import numpy as np

from evaluation.results.result import Result
from evaluation.statistics.error_analysis import CATEGORIES, error_costs, error_counts
from evaluation.statistics.loading import load_evidence
from evaluation.statistics.metrics import each_image_once
from evaluation.utils.rounding import fixed
from evaluation.utils.text_tables import DASH, Cell, Column, Table, to_markdown

NOTE = (
    'Points of AP50 that fixing one kind of error would bring, and how many errors there are (TIDE, '
    'arXiv 2008.08115): wrong class; overlap of 0.1 to 0.5; both; a second detection of an object; '
    'nothing there; objects that nothing meets. They do not add up.'
)
SEEDS_NOTE = 'Of several seeds: means over them.'
UNDEFINED_NOTE = f'{DASH}: without it no object would be left to count.'


def errors_text(names: Sequence[str], sides: Sequence[Sequence[Result]]) -> str:
    """Markdown: what each kind of error costs two or more detectors, box and mask.

    Args:
        names: of the models.
        sides: results of each one, a seed each, of which means are taken.
    """
    rows = [row for name, runs in zip(names, sides, strict=True) for row in _rows(name, runs)]
    notes = [NOTE]
    if any(len(runs) > 1 for runs in sides):
        notes.append(SEEDS_NOTE)
    if any(cell.text.startswith(DASH) for row in rows for cell in row):
        notes.append(UNDEFINED_NOTE)
    columns = [Column('Model', 'Model', numeric=False), Column('Overlap', 'Overlap', numeric=False)]
    columns += [Column(each, each) for each in CATEGORIES]
    return to_markdown(Table('What errors cost', tuple(columns), (tuple(rows),), tuple(notes)))


def _rows(name: str, runs: Sequence[Result]) -> list[tuple[Cell, ...]]:
    """A row for each kind of overlap."""
    evidence = [load_evidence(result) for result in runs]
    rows = []
    for kind in evidence[0].matches:
        once = [each_image_once(found) for found in evidence]
        costs = [error_costs(found, kind)(each) for found, each in zip(evidence, once, strict=True)]
        counts = [error_counts(found, kind) for found in evidence]
        cells = [
            Cell(
                _text(
                    np.mean([each[category] for each in costs]), [each.get(category) for each in counts]
                )
            )
            for category in CATEGORIES
        ]
        rows.append((Cell(name), Cell(kind), *cells))
    return rows


def _text(cost: float, counts: Sequence[int | None]) -> str:
    """`1.2 (34)`; without the number where errors of this kind are not counted."""
    text = fixed(cost, 1) if np.isfinite(cost) else DASH
    return text if None in counts else f'{text} ({int(fixed(np.mean(counts), 0)):,})'
