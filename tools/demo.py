"""Run the whole suite in minutes: generate scenes, pretrain, train and evaluate every mixer, tabulate.

    python tools/demo.py               # or: make demo
    python tools/demo.py --mixers all  # or: make demo MIXERS=all
    python tools/demo.py --full        # or: make demo-full
    python tools/demo.py --analyze     # or: make analyze

For each of the five mixers of the paper, or those of --mixers, trains a classifier on generated shapes,
then a detector and a segmentor, both from scratch and from the weights of the classifier. Writes tables,
pictures and a report to `work_dirs/demo`. --full trains the detectors and segmentors twice as long and
writes to `work_dirs/demo_full`. --analyze does the same and then measures the receptive fields,
invariance and robustness of the pretrained detectors. Finished trainings and analyses are not repeated.
"""

import argparse
import os

from evaluation.utils.errors import CommandLine, command, quiet
from evaluation.utils.formats import positive


def parse_arguments() -> argparse.Namespace:
    parser = CommandLine(__doc__)
    parser.add_argument(
        '--parallel', type=positive, metavar='N', help='trainings at a time; default: one per core'
    )
    parser.add_argument(
        '--mixers', nargs='+', metavar='NAME', help='mixers, or all; default: the five of the paper'
    )
    parser.add_argument('--full', action='store_true', help='train twice as long')
    parser.add_argument(
        '--analyze', action='store_true', help='the same as --full, then analyze the detectors'
    )
    return parser.parse_args()


@command
def main() -> None:
    arguments = parse_arguments()
    # Otherwise imports start CUDA, and processes that are forked later could not use it.
    os.environ.setdefault('PYTORCH_NVML_BASED_CUDA_CHECK', '1')
    with quiet():
        from evaluation.demo.demo import FULL, SHORT, Demo, chosen_mixers, run_demo

    length = FULL if arguments.full or arguments.analyze else SHORT
    demo = Demo(length, chosen_mixers(arguments.mixers))
    run_demo(demo, arguments.parallel)
    if arguments.analyze:
        from evaluation.demo.demo_analyses import run_analyses

        run_analyses(demo, arguments.parallel)


if __name__ == '__main__':
    main()
