"""The whole suite in minutes: generate scenes, train and evaluate every mixer on both tasks, tabulate.

    python tools/demo.py        # or: make demo

Each training is `tools/train.py configs/demo/<task>_<mixer>_micro.py`. All that is written lies in
`work_dirs/demo`; what is finished there is not done again.
"""

import argparse

from evaluation.errors import CommandLine, command


def parse_arguments() -> argparse.Namespace:
    parser = CommandLine(__doc__)
    parser.add_argument('--parallel', type=int, help='trainings at a time; default: one a core')
    return parser.parse_args()


@command
def main() -> None:
    arguments = parse_arguments()
    from evaluation.demo.demo import run_demo

    run_demo(arguments.parallel)


if __name__ == '__main__':
    main()
