"""Train and test every config that matches, with every seed; what is done is not done again.

    python tools/sweep.py 'configs/mask_rcnn_*_tiny.py' --seeds 0 1 2 --pretrained released
    python tools/sweep.py 'configs/upernet_*_tiny.py' --seeds 0 1 2 --gpus 8 --executor slurm --time 2-0

Each run is a job of tools/train.py in ROOT/<config name>/seed_<n>, on this machine or of Slurm. The same
command again goes on: finished runs are known by config, seed, data and start, interrupted ones are
resumed, failed ones are tried once more. `tools/table.py ROOT` collects the results. Exit status: 0 when
all is done, 1 when some runs failed, 2 for bad input.
"""

import argparse
import sys

from evaluation.utils.errors import CommandLine, command


def parse_arguments() -> argparse.Namespace:
    from evaluation.sweep.sweep import add_arguments

    parser = CommandLine(__doc__)
    add_arguments(parser)
    return parser.parse_args()


@command
def main() -> None:
    arguments = parse_arguments()
    from evaluation.sweep.sweep import sweep

    sys.exit(sweep(arguments))


if __name__ == '__main__':
    main()
