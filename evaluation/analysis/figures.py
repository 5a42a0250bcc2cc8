"""Figures as files."""

import io
from pathlib import Path

from matplotlib.figure import Figure

from evaluation.utils.files import write_output

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
