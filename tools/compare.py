"""Test whether one model is better than another, with a p-value and confidence intervals.

    python tools/compare.py work_dirs/mask_rcnn_swin_tiny work_dirs/mask_rcnn_convnext_tiny
    python tools/compare.py A/result.json B/result.json --format json --output comparison.json

Takes two result.json files or the work dirs of two experiments, with one or several seeds. A paired test
tells whether the models differ by more than chance, and a paired bootstrap over the images gives the
intervals. For detectors, the output also shows the AP lost to each type of error.
"""

import argparse
import sys
from pathlib import Path

from evaluation.utils.errors import CommandLine, command
from evaluation.utils.files import check_output, write_output
from evaluation.utils.formats import whole


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    from evaluation.results.selection import add_choice

    parser = CommandLine(__doc__)
    parser.add_argument('a', help='result.json or work dir of the first model')
    parser.add_argument('b', help='result.json or work dir of the second model')
    add_choice(parser, 'needed if a folder has results of several')
    parser.add_argument(
        '--resamples', type=int, default=1000, help='number of resamples for the intervals; default 1000'
    )
    parser.add_argument(
        '--seed',
        type=whole,
        default=0,
        metavar='N',
        help='random seed of the resamples; default 0; the test does not depend on it',
    )
    parser.add_argument('--format', choices=('markdown', 'json'), default='markdown')
    parser.add_argument('--output', type=Path, metavar='FILE', help='default: standard output')
    return parser.parse_args()


@command
def main() -> None:
    """Compare the models and write the comparison."""
    arguments = parse_arguments()
    if arguments.output is not None:
        check_output(arguments.output)
    from evaluation.tables.comparison import compare_places

    text = compare_places(arguments)
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        write_output(arguments.output, text.encode())


if __name__ == '__main__':
    main()
