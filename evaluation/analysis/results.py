"""Results of analyses: their JSON files, and the tables and pictures that all analyses draw alike.

A file names the weights by their digest. Its entry `columns` has a few figures, which tables show beside
the accuracy of these weights. Figures of different protocols are never compared with each other.
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
# Of the code released with arXiv 2211.05781.
RELEASED = 'released'
# Of RepLKNet's code (arXiv 2203.06717).
REPLKNET = 'replknet'
FOLDER = 'analysis'
SCHEMA_VERSION = 1
# What a malformed file raises while it is read.
MALFORMED = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
# What all results say of a trained model and its test images.
SUBJECT = ('config', 'checkpoint', 'task', 'images', 'batch')
INK, GRID = '#333333', '#dddddd'


@dataclass(frozen=True)
class AnalysisFigures:
    """The few figures of an analysis that stand beside the accuracy of a model.

    Attributes:
        kind: which analysis it is, as its file says.
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


def result_files(folders: Iterable[Path | str]) -> list[Path]:
    """The results of all analyses at any depth below `folders`, each once, sorted by name."""
    files = {f.resolve(): f for folder in folders for f in Path(folder).rglob(f'{FOLDER}/*.json')}
    return [file for _, file in sorted(files.items())]


def read_figures(file: Path) -> AnalysisFigures:
    """Read the figures that stand beside the accuracy of a model, from the result of any analysis.

    Raises:
        UserError: the file is damaged, or is something else.
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
            f'{file} is no whole result of an analysis; repeat the analysis, or take the file away'
        ) from error


def read_result(file: Path, analysis: str, topic: str, tool: str) -> dict:
    """Read all of the result of one analysis.

    Args:
        file: to read.
        analysis: what the file says that it is of.
        topic: the same in messages.
        tool: what writes such files, in messages.

    Raises:
        UserError: the file is missing, or is something else.
    """
    advice = f'give JSON files that {tool} wrote'
    try:
        content = json.loads(read_text(file))
    except FileNotFoundError:
        raise UserError(f'{file} is not there; {advice}') from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f'{file} is not JSON, or not whole; {advice}') from error
    if not isinstance(content, Mapping) or content.get('analysis') != analysis:
        raise UserError(f'{file} is no analysis of {topic}; {advice}')
    if content.get('schema_version') != SCHEMA_VERSION:
        raise UserError(
            f'{file} was written by another version of the suite; repeat the analysis with this one'
        )
    return content


def result_content(
    analysis: str, facts: Mapping, figures: Mapping[str, float], note: str, device: str
) -> dict:
    """All that the result of an analysis says.

    Args:
        analysis: what it is of.
        facts: of this analysis; what JSON lacks is stated as text.
        figures: for tables beside accuracies, by heading, in percent; NaN or None where undefined.
        note: what they mean, and of how many images they are.
        device: `cpu` or `cuda`.
    """
    # PyTorch is imported where something is analysed, so that results are read without it.
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
    """Write the rows as CSV beside `file`, if there are any, then the JSON.

    Raises:
        UserError: a file cannot be written.
    """
    if csv_rows is not None:
        write_output(file.with_suffix('.csv'), csv_text(csv_rows).encode())
    write_output(file, json_text(content).encode())


def csv_text(rows: Iterable[Sequence]) -> str:
    """Rows as CSV, every digit of numbers; nothing in place of None."""
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows(rows)
    return text.getvalue()


def model_name(content: Mapping) -> str:
    """Name of a config and of its checkpoint: `upernet_swin_tiny (iter_160000)`.

    Args:
        content: of a result, with `config` and `checkpoint`.
    """
    file = content['checkpoint']['file']
    return f'{content["config"]["name"]} ({Path(file).stem if file else "before training"})'


def defined(value: float | None) -> float | None:
    """A figure as JSON and CSV have it: None where it is undefined."""
    return None if value is None or not math.isfinite(value) else value


def with_null(figures: Mapping[str, float | None]) -> dict[str, float | None]:
    """Figures by name as JSON has them."""
    return {name: defined(value) for name, value in figures.items()}


def with_nan(figures: Mapping[str, float | None]) -> dict[str, float]:
    """Figures by name as they were before `with_null`."""
    return {name: math.nan if value is None else value for name, value in figures.items()}


def percent(value: float) -> str:
    """A figure in percent, with one digit after the point; a dash where there is none."""
    return fixed(value, 1) if math.isfinite(value) else DASH


def text_table(
    title: str, headings: Sequence[str], groups: Iterable[Iterable[Sequence[str]]], notes: Sequence[str]
) -> Table:
    """A table of texts, whose first two columns are words and all others numbers.

    Args:
        title: over the table.
        headings: of the columns.
        groups: of rows of texts, a group for each model.
        notes: below the table.
    """
    columns = [
        Column(heading, heading.replace('%', r'\%'), numeric=place > 1)
        for place, heading in enumerate(headings)
    ]
    cells = tuple(tuple(tuple(map(Cell, row)) for row in rows) for rows in groups)
    return Table(title, tuple(columns), cells, tuple(notes))


def blank_figure(width: float, height: float) -> 'Figure':
    """A figure of a width and height in inches, whose panels are laid out by `settle_layout`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=200, layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def settle_layout(figure: 'Figure') -> 'Figure':
    """Lay out the panels once, not again for each file."""
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine('none')
    return figure


def figure_bytes(figure: 'Figure', kind: str) -> bytes:
    """Content of a file, the same for the same figure.

    Args:
        figure: to be written.
        kind: `png` or `pdf`.
    """
    content = io.BytesIO()
    figure.savefig(content, format=kind, metadata={'CreationDate': None} if kind == 'pdf' else None)
    return content.getvalue()


def write_figure(figure: 'Figure', output: Path) -> None:
    """Write a PNG and a PDF with the name of `output`.

    Raises:
        UserError: a file cannot be written.
    """
    for kind in ('png', 'pdf'):
        write_output(output.with_suffix(f'.{kind}'), figure_bytes(figure, kind))


def _text(value: object) -> str:
    """Text that a table can print."""
    if not isinstance(value, str):
        raise TypeError(f'{value!r} is no text')
    return checked(value, 'text')


def _number(value: object) -> float | None:
    """A finite number, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError(f'{value!r} is no number')
    return float(value)
