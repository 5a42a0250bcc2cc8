"""Time the evaluators of box and mask AP on generated detections and compare their results.

    python tools/benchmark_evaluator.py                # size of COCO val2017: about 6 minutes, 3 GB
    python tools/benchmark_evaluator.py --images 500

Prints a Markdown table to stdout and progress to stderr.
"""

import argparse
import sys

from evaluation.benchmark.evaluator_speed import compare_evaluators, generate_problem, render_comparison
from evaluation.utils.errors import CommandLine, command
from evaluation.utils.formats import positive, whole

SIZES = {
    'images': (5000, 'images'),
    'detections': (100, 'detections per image'),
    'classes': (80, 'classes'),
    'repeats': (3, 'runs of each evaluator'),
}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandLine(__doc__)
    for name, (default, what) in SIZES.items():
        parser.add_argument(
            f'--{name}', type=positive, default=default, metavar='N', help=f'{what}; default {default}'
        )
    parser.add_argument('--seed', type=whole, default=0, metavar='N', help='random seed; default 0')
    return parser.parse_args()


@command
def main() -> None:
    """Generate detections, time the evaluators, and print the table."""
    arguments = parse_arguments()
    say(f'generating {arguments.images} images')
    problem = generate_problem(arguments.images, arguments.detections, arguments.classes, arguments.seed)
    comparison = compare_evaluators(problem, arguments.repeats, say)
    sys.stdout.write(render_comparison(comparison, arguments.repeats))


def say(message: str) -> None:
    """Print progress."""
    print(message, file=sys.stderr, flush=True)


if __name__ == '__main__':
    main()
