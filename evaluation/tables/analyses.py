"""Figures of analyses, for columns beside the accuracy of the very weights that were analysed."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from evaluation.results.reading import checked, time_of
from evaluation.utils.errors import UserError
from evaluation.utils.files import read_text

FOLDER = 'analysis'
COLUMNS = 'columns'
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
ADVICE = 'tools/analyze_erf.py, analyze_invariance.py and analyze_robustness.py write them'


@dataclass(frozen=True)
class Analysis:
    """What an analysis says of a model in a few figures.

    Attributes:
        kind: which analysis it is.
        weights_sha256: digest of the weights, as in `result.json`.
        figures: by heading, in percent; None where nothing can be said.
        note: what the figures mean.
        created: with a time zone.
    """

    kind: str
    weights_sha256: str
    figures: Mapping[str, float | None]
    note: str
    created: datetime


def columns(figures: Mapping[str, float | None], note: str) -> dict:
    """The entry of an analysis' JSON file that a table shows.

    Args:
        figures: by heading, in percent; None where nothing can be said.
        note: what they mean, and of how many images they are.
    """
    return {COLUMNS: {'figures': dict(figures), 'note': note}}


def load_analyses(folders: Iterable[Path | str]) -> list[Analysis]:
    """Read every result of an analysis at any depth below `folders`, the oldest first.

    Raises:
        UserError: there is none, or one is damaged.
    """
    folders = [Path(folder) for folder in folders]
    files = {file.resolve(): file for folder in folders for file in folder.rglob(f'{FOLDER}/*.json')}
    found = [_read(file) for _, file in sorted(files.items())]
    if not found:
        raise UserError(f'no analysis under {", ".join(map(str, folders))}; {ADVICE}')
    return sorted(found, key=lambda analysis: analysis.created)


def newest_of(analyses: Sequence[Analysis], weights_sha256: str | None) -> list[Analysis]:
    """The newest analysis of each kind, of some weights.

    Args:
        analyses: the oldest first.
        weights_sha256: digest of the weights; None where it is not known.
    """
    own = [analysis for analysis in analyses if analysis.weights_sha256 == weights_sha256]
    return [*{analysis.kind: analysis for analysis in own}.values()]


def figures_of(analyses: Sequence[Analysis], weights_sha256: str | None) -> dict[str, float | None]:
    """Figures of the newest analysis of each kind, of some weights; arguments as of `newest_of`."""
    return {
        heading: value
        for analysis in newest_of(analyses, weights_sha256)
        for heading, value in analysis.figures.items()
    }


def _read(file: Path) -> Analysis:
    try:
        content = json.loads(read_text(file))
        shown = content[COLUMNS]
        return Analysis(
            kind=_text(content['analysis']),
            weights_sha256=_text(content['checkpoint']['weights_sha256']),
            figures={_text(name): _number(value) for name, value in shown['figures'].items()},
            note=_text(shown['note']),
            created=time_of(_text(content['created'])),
        )
    except UNREADABLE as error:
        raise UserError(
            f'{file} is no whole result of an analysis; repeat the analysis, or take the file away'
        ) from error


def _text(value: object) -> str:
    """Text that a table can print."""
    if not isinstance(value, str):
        raise TypeError(f'{value!r} is no text')
    return checked(value, 'text')


def _number(value: object) -> float | None:
    """A finite number."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError(f'{value!r} is no number')
    return float(value)
