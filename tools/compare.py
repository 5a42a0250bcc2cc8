"""Say whether one model is better than another, with intervals.

    python tools/compare.py work_dirs/mask_rcnn_swin_tiny work_dirs/mask_rcnn_convnext_tiny
    python tools/compare.py A/result.json B/result.json --format json --output comparison.json

Takes two result.json, or the work dirs of two experiments, with one seed or several. Both models are
evaluated on the same resamples of the images (paired bootstrap); of detectors it also says what each
kind of error costs.
"""

import argparse
import sys
from pathlib import Path

from evaluation.errors import CommandLine, command
from evaluation.files import check_output, write_output
from evaluation.numbers import whole


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    from evaluation.results.result import TASKS

    parser = CommandLine(__doc__)
    parser.add_argument('a', help='result.json or work dir of the first model')
    parser.add_argument('b', help='the same of the second')
    parser.add_argument('--task', choices=TASKS, help='which, where a folder has results of several')
    parser.add_argument('--resamples', type=int, default=1000, help='how many to draw; default 1000')
    parser.add_argument('--seed', type=whole, default=0, metavar='N', help='of the draws; default 0')
    parser.add_argument('--format', choices=('markdown', 'json'), default='markdown')
    parser.add_argument('--output', type=Path, metavar='FILE', help='default: standard output')
    return parser.parse_args()


@command
def main() -> None:
    """Compare, and write the outcome."""
    arguments = parse_arguments()
    if arguments.output is not None:
        check_output(arguments.output)
    from evaluation.significance.command import compare_places

    text = compare_places(arguments)
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        write_output(arguments.output, text.encode())


if __name__ == '__main__':
    main()
