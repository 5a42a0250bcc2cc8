"""Command line shared by the analyses: options, checks and output."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.utils.errors import UserError
from evaluation.utils.formats import positive

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from evaluation.utils.text_tables import Table

# Names in messages of the arguments for a trained model.
MODEL = {'config': 'CONFIG', 'checkpoint': 'CHECKPOINT'}


def print_table(
    arguments: argparse.Namespace,
    analyze_model: Callable[[argparse.Namespace], str],
    compare: Callable[[list[Path], Path], str],
) -> None:
    """Analyze a model or compare results, and print only the table to standard output.

    Args:
        arguments: parsed options, including those of `add_model_arguments`.
        analyze_model: function that analyzes the model that the arguments name.
        compare: function that draws results side by side into a file.
    """
    # Some libraries print when they are imported.
    with contextlib.redirect_stdout(sys.stderr):
        if arguments.compare:
            table = compare(arguments.compare, arguments.output)
        else:
            table = analyze_model(arguments)
    sys.stdout.write(table)


def leave_result(output: Path, write: Callable[[Path], None], figure: 'Figure', table: 'Table') -> str:
    """Write the result of a model and its figure, and return its table as Markdown.

    Args:
        output: file of the result; its folder is created.
        write: function that writes the result.
        figure: figure to write next to the result.
        table: table of the result.

    Raises:
        UserError: a file cannot be written.
    """
    from evaluation.analysis.results import write_figure
    from evaluation.utils.text_tables import to_markdown

    output.parent.mkdir(parents=True, exist_ok=True)
    write(output)
    write_figure(figure, output)
    print(f'result written to {output}')
    return to_markdown(table)


def add_model_arguments(parser: argparse.ArgumentParser, batch: int, batch_help: str) -> None:
    """Add the options for the model, its execution and the output.

    Args:
        parser: parser to add to.
        batch: default number of images per forward pass.
        batch_help: help text of `--batch`.
    """
    # Commands import this module before they can report errors, so it imports little at the top.
    from evaluation.config.overrides import add_backbone, add_overrides
    from evaluation.engine.experiment import add_key_and_launcher

    parser.add_argument('config', nargs='?', metavar='CONFIG', help='config file')
    parser.add_argument('checkpoint', nargs='?', metavar='CHECKPOINT', help='path or URL of its weights')
    parser.add_argument('--limit', type=positive, metavar='N', help='use only the first N images')
    parser.add_argument(
        '--batch', type=positive, default=batch, metavar='N', help=f'{batch_help}; default {batch}'
    )
    parser.add_argument(
        '--device', metavar='cpu|cuda|cuda:N', help='default: the first GPU, else the CPU'
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        help="folder to write to; default: the config's work_dir, or work_dirs/<config name>",
    )
    parser.add_argument(
        '--compare', nargs='+', type=Path, metavar='FILE.json', help='draw these results side by side'
    )
    parser.add_argument(
        '--output',
        type=Path,
        metavar='FILE',
        help='file for the result, FILE.json, or for the figure of --compare, FILE.png',
    )
    add_backbone(parser)
    add_overrides(parser)
    add_key_and_launcher(parser)


def check_model_or_comparison(
    arguments: argparse.Namespace, needed: Mapping[str, str], of_a_model: Sequence[str]
) -> None:
    """Check that the options name a model, or results with `--compare`, and a writable file.

    Args:
        arguments: parsed options, including those of `add_model_arguments`.
        needed: required arguments for analyzing a model, by name, and their names in messages.
        of_a_model: names of arguments for analyzing a model that are None by default.

    Raises:
        UserError: an option is missing, or options cannot be combined.
    """
    if arguments.compare:
        _check_comparison(arguments, of_a_model)
    elif any(getattr(arguments, name) is None for name in needed):
        raise UserError(f'give {" and ".join(needed.values())}, or --compare FILE.json ...')
    _check_output(arguments.output, '.png' if arguments.compare else '.json')


def _check_comparison(arguments: argparse.Namespace, of_a_model: Sequence[str]) -> None:
    given = [name for name in of_a_model if getattr(arguments, name) is not None]
    if given:
        word = MODEL.get(given[0]) or option_name(given[0])
        raise UserError(f'--compare draws existing results; remove {word}')
    if arguments.output is None:
        raise UserError('--compare needs --output FILE.png')


def option_name(name: str) -> str:
    """Return the command-line option for the name of an argument."""
    return '--' + name.replace('_', '-')


def _check_output(output: Path | None, suffix: str) -> None:
    """Check that a file given with `--output` can be written.

    Raises:
        UserError: the name does not end in `suffix`, or the folder does not exist.
    """
    if output and output.suffix != suffix:
        raise UserError(f'--output {output}: the name must end in {suffix}')
    if output and (output.is_dir() or not output.resolve().parent.is_dir()):
        raise UserError(f'{output}: cannot be written; give a file in an existing folder')


def result_file(arguments: argparse.Namespace, name: str) -> Path:
    """Return the file for the result: the value of `--output`, or `name` in the work dir.

    Raises:
        UserError: the work dir cannot be written, or the config cannot be read.
    """
    from evaluation.config.contestants import open_config
    from evaluation.config.run_settings import work_dir
    from evaluation.engine.experiment import check_work_dir
    from evaluation.engine.protocol_options import stated_by_checkpoint

    if arguments.output is not None:
        return arguments.output
    stated = stated_by_checkpoint(arguments.checkpoint)
    cfg, _ = open_config(arguments.config, arguments.backbone, arguments.cfg_options, stated)
    folder = Path(work_dir(cfg, arguments.work_dir, cfg.filename))
    check_work_dir(folder)
    return folder / 'analysis' / name
