"""Train and test every matching config with every seed; finished runs are not repeated.

    python tools/sweep.py configs/mask_rcnn_{swin,dcn}_tiny.py --seeds 0 1 2 --pretrained released
    python tools/sweep.py configs/_base_/mask_rcnn_coco_1x.py --backbones dcn_tiny timm:resnet50
    python tools/sweep.py 'configs/upernet_*_tiny.py' --seeds 0 1 2 --gpus 8 --executor slurm --time 2-0

Each run is a job of tools/train.py in ROOT/<config name>/seed_<n>, on this machine or on Slurm; with
--backbones, the config name ends in the name of the backbone. To resume a sweep, run the same command
again: finished runs are recognized by config, seed, data and initial weights, interrupted ones are
resumed, and failed ones are retried once. `tools/table.py ROOT` collects the results. Exit status: 0 if
all runs finished, 1 if some did not, 2 for invalid input.
"""

import argparse
import sys

from evaluation.utils.errors import CommandLine, command


def parse_arguments() -> argparse.Namespace:
    from evaluation.sweep.sweep_options import add_arguments

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
