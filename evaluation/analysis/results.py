"""Files of all analyses: pictures, JSON results, and the figures that tables of accuracies show.

Figures of different protocols are never compared with each other.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from evaluation.utils.errors import UserError
from evaluation.utils.files import read_text, write_output


def read_result(file: Path, analysis: str, topic: str, schema_version: int, tool: str) -> dict:
    """Read the result of an analysis.

    Args:
        file: to read.
        analysis: what the file says that it is of.
        topic: the same in messages.
        schema_version: that is known.
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
    if content.get('schema_version') != schema_version:
        raise UserError(
            f'{file} was written by another version of the suite; repeat the analysis with this one'
        )
    return content


def model_name(content: Mapping) -> str:
    """Name of a config and of its checkpoint: `upernet_swin_tiny (iter_160000)`.

    Args:
        content: of a result, with `config` and `checkpoint`.
    """
    file = content['checkpoint']['file']
    return f'{content["config"]["name"]} ({Path(file).stem if file else "before training"})'


KINDS = ('png', 'pdf')


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """Content of a file, the same for the same figure.

    Args:
        figure: to be written.
        kind: `png` or `pdf`.
    """
    content = io.BytesIO()
    figure.savefig(content, format=kind, metadata={'CreationDate': None} if kind == 'pdf' else None)
    return content.getvalue()


def write_figure(figure: Figure, output: Path) -> None:
    """Write a PNG and a PDF with the name of `output`.

    Raises:
        UserError: a file cannot be written.
    """
    for kind in KINDS:
        write_output(output.with_suffix(f'.{kind}'), figure_bytes(figure, kind))


SUITE = 'suite'
# Of the code released with arXiv 2211.05781.
RELEASED = 'released'
# Of RepLKNet's code (arXiv 2203.06717).
REPLKNET = 'replknet'


ANALYSES = ('erf', 'invariance', 'robustness')
