"""Result files of analyses, and helpers for their tables and figures.

A file identifies the weights by their digest. Its entry `columns` has a few values that tables show next
to the accuracy of these weights. Values of different protocols are never compared with each other.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.results.reading import checked, time_of
from evaluation.utils.errors import UserError
from evaluation.utils.files import json_text, read_text, write_output
from evaluation.utils.formats import fixed
from evaluation.utils.text_tables import DASH, Cell, Column, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ANALYSES = ('erf', 'invariance', 'robustness')
SUITE = 'suite'
# Protocol of the code released with arXiv 2211.05781.
RELEASED = 'released'
# Protocol of RepLKNet's code (arXiv 2203.06717).
REPLKNET = 'replknet'
FOLDER = 'analysis'
SCHEMA_VERSION = 1
# Exceptions that reading a malformed file raises.
MALFORMED = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
# Keys that describe a trained model and its test images in all results.
SUBJECT = ('config', 'checkpoint', 'task', 'images', 'batch')
INK, GRID = '#333333', '#dddddd'


@dataclass(frozen=True)
class AnalysisFigures:
    """Values of an analysis that tables show next to the accuracy of a model.

    Attributes:
        kind: name of the analysis.
        weights_sha256: digest of the weights, as in `result.json`.
        figures: values in percent, by column heading; None if undefined.
        note: explanation of the values.
        created: time of creation, with a time zone.
    """

    kind: str
    weights_sha256: str
    figures: Mapping[str, float | None]
    note: str
    created: datetime


def result_files(folders: Iterable[Path | str]) -> list[Path]:
    """Return the results of all analyses at any depth below `folders`, each once, sorted by name."""
    files = {f.resolve(): f for folder in folders for f in Path(folder).rglob(f'{FOLDER}/*.json')}
    return [file for _, file in sorted(files.items())]


def read_figures(file: Path) -> AnalysisFigures:
    """Read the values to show next to the accuracy of a model, from the result of any analysis.

    Raises:
        UserError: the file is corrupt or is not the result of an analysis.
    """
    try:
        content = json.loads(read_text(file))
        shown = content['columns']
        return AnalysisFigures(
            kind=_text(content['analysis']),
            weights_sha256=_text(content['checkpoint']['weights_sha256']),
            figures={_text(name): _number(value) for name, value in shown['figures'].items()},
            note=_text(shown['note']),
            created=time_of(_text(content['created'])),
        )
    except MALFORMED as error:
        raise UserError(
            f'{file} is not a complete result of an analysis; repeat the analysis or remove the file'
        ) from error


def read_result(file: Path, analysis: str, topic: str, tool: str) -> dict:
    """Read the result of one kind of analysis.

    Args:
        file: file to read.
        analysis: expected value of the entry `analysis`.
        topic: name of the analysis in messages.
        tool: script that writes such files, for messages.

    Raises:
        UserError: the file is missing or corrupt, or is not a result of this analysis.
    """
    advice = f'give JSON files that {tool} wrote'
    try:
        content = json.loads(read_text(file))
    except FileNotFoundError:
        raise UserError(f'{file} does not exist; {advice}') from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f'{file} is not valid JSON, or is truncated; {advice}') from error
    if not isinstance(content, Mapping) or content.get('analysis') != analysis:
        raise UserError(f'{file} is not an analysis of {topic}; {advice}')
    if content.get('schema_version') != SCHEMA_VERSION:
        raise UserError(
            f'{file} was written by a different version of the suite; repeat the analysis with this one'
        )
    return content


def result_content(
    analysis: str, facts: Mapping, figures: Mapping[str, float], note: str, device: str
) -> dict:
    """Return the content of the result of an analysis.

    Args:
        analysis: name of the analysis.
        facts: entries of this analysis; values that JSON does not support are written as text.
        figures: values in percent for tables of accuracies, by heading; NaN or None if undefined.
        note: explanation of the values, with the number of images.
        device: `cpu` or `cuda`.
    """
    # Imported here because it imports PyTorch, which is not needed to read results.
    from evaluation.results.description import git_state, hardware, now, versions

    return {
        'schema_version': SCHEMA_VERSION,
        'analysis': analysis,
        **json.loads(json.dumps(facts, default=str)),
        'columns': {'figures': with_null(figures), 'note': note},
        'versions': versions(),
        'git': git_state(),
        'hardware': {'device': device, **hardware()},
        'created': now(),
    }


def write_content(file: Path, content: dict, csv_rows: Iterable[Sequence] | None = None) -> None:
    """Write the rows, if given, as CSV next to `file`, then write the JSON.

    Raises:
        UserError: a file cannot be written.
    """
    if csv_rows is not None:
        write_output(file.with_suffix('.csv'), csv_text(csv_rows).encode())
    write_output(file, json_text(content).encode())


def csv_text(rows: Iterable[Sequence]) -> str:
    """Format rows as CSV, with numbers at full precision and empty fields for None."""
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows(rows)
    return text.getvalue()


def model_name(content: Mapping) -> str:
    """Return the name of a config and its checkpoint: `upernet_swin_tiny (iter_160000)`.

    Args:
        content: content of a result, with `config` and `checkpoint`.
    """
    file = content['checkpoint']['file']
    return f'{content["config"]["name"]} ({Path(file).stem if file else "before training"})'


def defined(value: float | None) -> float | None:
    """Return a value as written to JSON and CSV: None if it is undefined."""
    return None if value is None or not math.isfinite(value) else value


def with_null(figures: Mapping[str, float | None]) -> dict[str, float | None]:
    """Replace undefined values by None, for JSON."""
    return {name: defined(value) for name, value in figures.items()}


def with_nan(figures: Mapping[str, float | None]) -> dict[str, float]:
    """Replace None by NaN; the inverse of `with_null`."""
    return {name: math.nan if value is None else value for name, value in figures.items()}


def percent(value: float) -> str:
    """Format a value in percent with one decimal; a dash if it is undefined."""
    return fixed(value, 1) if math.isfinite(value) else DASH


def text_table(
    title: str, headings: Sequence[str], groups: Iterable[Iterable[Sequence[str]]], notes: Sequence[str]
) -> Table:
    """Return a table from strings; columns after the first two are numeric.

    Args:
        title: title above the table.
        headings: column headings.
        groups: rows of strings, grouped by model.
        notes: notes below the table.
    """
    columns = [
        Column(heading, heading.replace('%', r'\%'), numeric=place > 1)
        for place, heading in enumerate(headings)
    ]
    cells = tuple(tuple(tuple(map(Cell, row)) for row in rows) for rows in groups)
    return Table(title, tuple(columns), cells, tuple(notes))


def blank_figure(width: float, height: float) -> 'Figure':
    """Return an empty figure, width and height in inches; `settle_layout` lays out its panels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=200, layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def settle_layout(figure: 'Figure') -> 'Figure':
    """Lay out the panels once, so that saving does not repeat it for each file."""
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine('none')
    return figure


def figure_bytes(figure: 'Figure', kind: str) -> bytes:
    """Return the content of an image file, reproducible for the same figure.

    Args:
        figure: figure to write.
        kind: `png` or `pdf`.
    """
    content = io.BytesIO()
    figure.savefig(content, format=kind, metadata={'CreationDate': None} if kind == 'pdf' else None)
    return content.getvalue()


def write_figure(figure: 'Figure', output: Path) -> None:
    """Write a figure as PNG and PDF, named like `output`.

    Raises:
        UserError: a file cannot be written.
    """
    for kind in ('png', 'pdf'):
        write_output(output.with_suffix(f'.{kind}'), figure_bytes(figure, kind))


def _text(value: object) -> str:
    """Check that a value is text that a table can print."""
    if not isinstance(value, str):
        raise TypeError(f'{value!r} is not text')
    return checked(value, 'text')


def _number(value: object) -> float | None:
    """Check that a value is a finite number or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError(f'{value!r} is not a finite number')
    return float(value)


ADVICE = 'tools/analyze_erf.py, analyze_invariance.py and analyze_robustness.py write them'


def load_analyses(folders: Iterable[Path | str]) -> list[AnalysisFigures]:
    """Read all analysis results below `folders`, at any depth, sorted from oldest to newest.

    Raises:
        UserError: no analysis is found, or one cannot be read.
    """
    folders = list(folders)
    found = [read_figures(file) for file in result_files(folders)]
    if not found:
        raise UserError(f'no analysis under {", ".join(map(str, folders))}; {ADVICE}')
    return sorted(found, key=lambda analysis: analysis.created)


def newest_of(analyses: Sequence[AnalysisFigures], weights_sha256: str | None) -> list[AnalysisFigures]:
    """Return the newest analysis of each kind for the given weights.

    Args:
        analyses: analyses, sorted from oldest to newest.
        weights_sha256: digest of the weights; None if unknown.
    """
    own = [analysis for analysis in analyses if analysis.weights_sha256 == weights_sha256]
    return [*{analysis.kind: analysis for analysis in own}.values()]


def figures_of(
    analyses: Sequence[AnalysisFigures], weights_sha256: str | None
) -> dict[str, float | None]:
    """Return the figures of the newest analysis of each kind; see `newest_of` for the arguments."""
    return {
        heading: value
        for analysis in newest_of(analyses, weights_sha256)
        for heading, value in analysis.figures.items()
    }
