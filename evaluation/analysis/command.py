"""What the commands of all analyses do alike: one model or several, and what is left behind."""

import argparse
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from evaluation.utils.text_tables import Table


def print_table(
    arguments: argparse.Namespace,
    analyse_model: Callable[[argparse.Namespace], str],
    compare: Callable[[list[Path], Path], str],
) -> None:
    """Look at one model, or compare several, and print the table alone on standard output.

    Args:
        arguments: with what `add_model_arguments` adds.
        analyse_model: looks at the model that the arguments name.
        compare: draws results side by side, into a file.
    """
    # Some libraries print when they are imported.
    with contextlib.redirect_stdout(sys.stderr):
        if arguments.compare:
            table = compare(arguments.compare, arguments.output)
        else:
            table = analyse_model(arguments)
    sys.stdout.write(table)


def leave_result(output: Path, write: Callable[[Path], None], figure: 'Figure', table: 'Table') -> str:
    """Write the result of a model and its pictures, and return its table as Markdown.

    Args:
        output: name of the result; its folder is made.
        write: writes the result.
        figure: to be written beside it.
        table: of the same figures.

    Raises:
        UserError: a file cannot be written.
    """
    from evaluation.analysis.figures import write_figure
    from evaluation.utils.text_tables import to_markdown

    output.parent.mkdir(parents=True, exist_ok=True)
    write(output)
    write_figure(figure, output)
    print(f'result written to {output}')
    return to_markdown(table)
