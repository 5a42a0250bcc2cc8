"""The whole suite in minutes: generate scenes, pretrain, train and evaluate every mixer, tabulate.

    python tools/demo.py        # or: make demo

Each training is `tools/train.py configs/demo/<task>_<mixer>_micro.py`, the dense ones once from scratch
and once with `--pretrained` and the weights of the classifier. All that is written lies in
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
