"""The whole suite in minutes: generate scenes, pretrain, train and evaluate every mixer, tabulate.

    python tools/demo.py               # or: make demo
    python tools/demo.py --analyze     # or: make analyze

Each training is `tools/train.py configs/demo/<task>_<mixer>_micro.py`, the dense ones once from scratch
and once with `--pretrained` and the weights of the classifier. --analyze goes on with the receptive
fields, invariance and robustness of the pretrained detectors. All that is written lies in
`work_dirs/demo`; what is finished there is not done again.
"""

import argparse

from evaluation.utils.errors import CommandLine, command


def parse_arguments() -> argparse.Namespace:
    parser = CommandLine(__doc__)
    parser.add_argument('--parallel', type=int, help='trainings at a time; default: one a core')
    parser.add_argument('--analyze', action='store_true', help='then analyze the detectors')
    return parser.parse_args()


@command
def main() -> None:
    arguments = parse_arguments()
    from evaluation.demo.demo import run_demo

    run_demo(arguments.parallel)
    if arguments.analyze:
        from evaluation.demo.demo_analyses import run_analyses

        run_analyses(arguments.parallel)


if __name__ == '__main__':
    main()
