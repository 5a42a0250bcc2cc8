"""Invariance: how a model's predictions change when its images are shifted, rotated or scaled.

    python tools/analyze_invariance.py configs/imagenet_swin_tiny.py epoch_300.pth
    python tools/analyze_invariance.py configs/mask_rcnn_swin_tiny.py epoch_12.pth --limit 500 --steps 5
    python tools/analyze_invariance.py --compare work_dirs/*/analysis/invariance.json --output all.png

Uses the test images of the config, or the first N with --limit. Classifiers follow the protocol of
arXiv 2211.05781. For detectors and segmentors, the ground truth and the original predictions are
transformed like the image. Writes figures (invariance.json, .csv) and curves (.png, .pdf) to
`work_dirs/<config name>/analysis`. To resume an interrupted run, run the same command again. Processes
started by `tools/launch.py` share the images. --compare draws models of the same task side by side.
"""

import argparse
import math
from functools import partial
from pathlib import Path

from evaluation.analysis.command import leave_result, print_table
from evaluation.utils.errors import CommandLine, UserError, command, warn
from evaluation.utils.formats import positive

OF_A_MODEL = (
    'config', 'backbone', 'checkpoint', 'data_root', 'limit', 'transforms', 'strengths', 'steps',
    'directions', 'fill', 'rotate', 'reference_score', 'protocol', 'work_dir', 'checkpoint_key',
)  # fmt: skip


def parse_arguments() -> argparse.Namespace:
    """Read the command line.

    Raises:
        UserError: an option is unknown, has an invalid value, or conflicts with another one.
    """
    from evaluation.analysis.command import add_model_arguments
    from evaluation.analysis.results import RELEASED, SUITE
    from evaluation.engine.experiment import add_data_arguments

    parser = CommandLine(__doc__)
    add_model_arguments(parser, batch=8, batch_help='images per forward pass')
    add_data_arguments(parser)
    parser.add_argument(
        '--protocol',
        choices=[SUITE, RELEASED],
        help="the suite's views (default), or those of the paper's released code (classifiers only)",
    )
    parser.add_argument(
        '--transforms', nargs='+', metavar='NAME', help='translation, rotation, scale; default: all'
    )
    parser.add_argument(
        '--strengths',
        nargs='+',
        type=number,
        metavar='X',
        help="strengths of a single transform: pixels, degrees or crop ratios; default: the paper's",
    )
    parser.add_argument(
        '--steps',
        type=positive,
        metavar='N',
        help='use N evenly spaced strengths of the paper; default: all',
    )
    parser.add_argument(
        '--directions',
        nargs='+',
        metavar='NAME',
        help='directions of translation: right, down-right, down ...; default: all 8, or the 7 released',
    )
    parser.add_argument(
        '--fill',
        choices=['mean', 'black'],
        help="color of uncovered pixels; default: black for classifiers, else the preprocessor's mean",
    )
    parser.add_argument(
        '--rotate',
        choices=['before', 'after'],
        help="rotate images before or after a classifier's center crop; default after",
    )
    parser.add_argument(
        '--reference-score',
        type=number,
        metavar='X',
        help='minimum score of the detections used to measure consistency; default 0.3',
    )
    arguments = parser.parse_args()
    check_combinations(arguments)
    return arguments


def number(text: str) -> float:
    """Parse a finite number.

    Raises:
        argparse.ArgumentTypeError: the text is not a finite number.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f'{text!r} is not a number')
    return value


def check_combinations(arguments: argparse.Namespace) -> None:
    """Check combinations of options before any work starts.

    Raises:
        UserError: options conflict, or a file cannot be written.
    """
    from evaluation.analysis.command import MODEL, check_model_or_comparison

    check_model_or_comparison(arguments, MODEL, OF_A_MODEL)
    if arguments.reference_score is not None and not 0 <= arguments.reference_score <= 1:
        raise UserError(f'--reference-score is {arguments.reference_score:g}; give a number from 0 to 1')


@command
def main() -> None:
    """Analyze one model or compare several results."""
    print_table(parse_arguments(), analyze_model, compare)


def analyze_model(arguments: argparse.Namespace) -> str:
    """Analyze all images, write the results, and return the table; '' except in the main process.

    Raises:
        UserError: an argument is invalid.
    """
    from evaluation.analysis.command import result_file
    from evaluation.analysis.invariance.conditions import choose_conditions
    from evaluation.analysis.invariance.prediction_changes import Settings
    from evaluation.analysis.invariance.presentation import curve_table, draw_curves
    from evaluation.analysis.invariance.result import write_result
    from evaluation.analysis.invariance.run import analyze, summarize
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
    parts = analyze(subject, settings, output)
    if not is_main():
        return ''
    result = summarize(subject, settings, parts)
    table = leave_result(
        output, partial(write_result, result), draw_curves([result]), curve_table([result])
    )
    parts.remove()
    return table


def compare(files: list[Path], output: Path) -> str:
    """Draw results side by side and return their table.

    Raises:
        UserError: a file is not a result, or tasks or protocols differ.
    """
    from evaluation.analysis.invariance.presentation import curve_table, draw_curves
    from evaluation.analysis.invariance.result import read_results
    from evaluation.analysis.results import write_figure
    from evaluation.utils.text_tables import to_markdown

    results = read_results(files)
    for file, result in zip(files, results, strict=True):
        if result.protocol != results[0].protocol:
            raise UserError(
                f'{file} uses protocol {result.protocol}, but {files[0]} uses {results[0].protocol}; '
                'compare results with the same --protocol'
            )
    if any(result.compared != results[0].compared for result in results):
        warn('the results were measured with different images, strengths or settings')
    write_figure(draw_curves(results), output)
    return to_markdown(curve_table(results))


if __name__ == '__main__':
    main()
