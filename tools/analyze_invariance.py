"""Invariance: how a model's predictions change when its images are moved, turned or scaled.

    python tools/analyze_invariance.py configs/imagenet_swin_tiny.py epoch_300.pth
    python tools/analyze_invariance.py configs/mask_rcnn_swin_tiny.py epoch_12.pth --limit 500 --steps 5
    python tools/analyze_invariance.py --compare work_dirs/*/analysis/invariance.json --output all.png

Of the config's test images, or the first of them. Classifiers by the protocol of arXiv 2211.05781;
detectors and segmentors with the truth, and what was found before, changed as the image is. Writes
figures (invariance.json, .csv) and curves (.png, .pdf) to `work_dirs/<config name>/analysis`. An
interrupted run is gone on with by repeating the command; several processes started by
`tools/launch.py` share the images. --compare draws models of one task side by side.
"""

import argparse
import math
from functools import partial
from pathlib import Path

from evaluation.analysis.command import leave_result, print_table
from evaluation.utils.errors import CommandLine, UserError, command, warn
from evaluation.utils.formats import positive

OF_A_MODEL = (
    'config', 'checkpoint', 'data_root', 'limit', 'transforms', 'strengths', 'steps', 'directions',
    'fill', 'rotate', 'reference_score', 'protocol', 'work_dir', 'checkpoint_key',
)  # fmt: skip


def parse_arguments() -> argparse.Namespace:
    """Read the command line.

    Raises:
        UserError: options are misspelt, have wrong values, or do not go together.
    """
    from evaluation.analysis.command import add_model_arguments
    from evaluation.analysis.results import RELEASED, SUITE
    from evaluation.engine.experiment import add_data_arguments

    parser = CommandLine(__doc__)
    add_model_arguments(parser, batch=8, batch_help='images in a pass')
    add_data_arguments(parser)
    parser.add_argument(
        '--protocol',
        choices=[SUITE, RELEASED],
        help="views of the suite (default), or those of the paper's released code, of classifiers alone",
    )
    parser.add_argument(
        '--transforms', nargs='+', metavar='NAME', help='of translation, rotation, scale; default: all'
    )
    parser.add_argument(
        '--strengths',
        nargs='+',
        type=number,
        metavar='X',
        help="of the one transform: pixels, degrees or crop ratios; default: the paper's",
    )
    parser.add_argument(
        '--steps',
        type=positive,
        metavar='N',
        help="take N of the paper's strengths, evenly; default: all",
    )
    parser.add_argument(
        '--directions',
        nargs='+',
        metavar='NAME',
        help='of translations: right, down-right, down ...; default: all eight, or the seven released',
    )
    parser.add_argument(
        '--fill',
        choices=['mean', 'black'],
        help="what comes into view: the preprocessor's mean, or black; default: black for classifiers",
    )
    parser.add_argument(
        '--rotate',
        choices=['before', 'after'],
        help="whether to turn images before or after a classifier's crop of the middle; default after",
    )
    parser.add_argument(
        '--reference-score',
        type=number,
        metavar='X',
        help='least score of the detections that consistency is measured with; default 0.3',
    )
    arguments = parser.parse_args()
    check_combinations(arguments)
    return arguments


def number(text: str) -> float:
    """A finite number.

    Raises:
        argparse.ArgumentTypeError: it is something else.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f'{text!r} is not a number')
    return value


def check_combinations(arguments: argparse.Namespace) -> None:
    """Look at what options say together, before time is spent.

    Raises:
        UserError: options do not go together, or a file cannot be written.
    """
    from evaluation.analysis.command import MODEL, check_model_or_comparison

    check_model_or_comparison(arguments, MODEL, OF_A_MODEL)
    if arguments.reference_score is not None and not 0 <= arguments.reference_score <= 1:
        raise UserError(f'--reference-score {arguments.reference_score:g}: give a number from 0 to 1')


@command
def main() -> None:
    """Look at one model, or compare several."""
    print_table(parse_arguments(), analyse_model, compare)


def analyse_model(arguments: argparse.Namespace) -> str:
    """Look at all images, write, and return the table; nothing where another process does this.

    Raises:
        UserError: something in the arguments is wrong.
    """
    from evaluation.analysis.command import result_file
    from evaluation.analysis.invariance.conditions import choose_conditions
    from evaluation.analysis.invariance.prediction_changes import Settings
    from evaluation.analysis.invariance.presentation import curve_table, draw_curves
    from evaluation.analysis.invariance.result import write_result
    from evaluation.analysis.invariance.run import analyse, summarise
    from evaluation.analysis.parts import is_main, join_processes
    from evaluation.analysis.results import SUITE
    from evaluation.analysis.subject import open_subject

    protocol = arguments.protocol or SUITE
    conditions = choose_conditions(
        arguments.transforms, arguments.strengths, arguments.steps, arguments.directions, protocol
    )
    settings = Settings(
        conditions, arguments.fill, arguments.rotate, arguments.reference_score, protocol
    )
    output = result_file(arguments, 'invariance.json')
    subject = open_subject(arguments)
    join_processes(arguments.launcher)
    parts = analyse(subject, settings, output)
    if not is_main():
        return ''
    result = summarise(subject, settings, parts)
    table = leave_result(
        output, partial(write_result, result), draw_curves([result]), curve_table([result])
    )
    parts.remove()
    return table


def compare(files: list[Path], output: Path) -> str:
    """Draw results side by side, and return their table.

    Raises:
        UserError: a file is none of a result, or tasks or protocols differ.
    """
    from evaluation.analysis.invariance.presentation import curve_table, draw_curves
    from evaluation.analysis.invariance.result import read_results
    from evaluation.analysis.results import write_figure
    from evaluation.utils.text_tables import to_markdown

    results = read_results(files)
    for file, result in zip(files, results, strict=True):
        if result.protocol != results[0].protocol:
            raise UserError(
                f'{file} is of the protocol {result.protocol}, {files[0]} of {results[0].protocol}; '
                'compare results of one --protocol'
            )
    if any(result.compared != results[0].compared for result in results):
        warn('the results are of different images, strengths or settings')
    write_figure(draw_curves(results), output)
    return to_markdown(curve_table(results))


if __name__ == '__main__':
    main()
