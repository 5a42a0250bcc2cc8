"""Train a detector or segmentor.

    python tools/train.py configs/mask_rcnn_dcn_tiny.py --pretrained released

Writes logs, checkpoints, the dumped config and a result.json an evaluation to `work_dirs/<config name>`.
"""

import argparse

from evaluation.utils.errors import CommandLine, command
from evaluation.utils.formats import whole


def parse_arguments() -> argparse.Namespace:
    from evaluation.engine.experiment import add_common_arguments

    parser = CommandLine(__doc__)
    parser.add_argument('config', help='config file')
    add_common_arguments(parser)
    parser.add_argument(
        '--pretrained',
        metavar='CHECKPOINT',
        help='start the backbone from this path or URL, or from `released`; default: from scratch',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='latest',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or from the latest in the work dir (also: auto)',
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision (GPU)')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size'
    )
    parser.add_argument(
        '--seed',
        type=whole,
        metavar='N',
        help="of all random numbers; default: the config's randomness.seed, or 0",
    )
    parser.add_argument(
        '--deterministic', action='store_true', help='only deterministic algorithms; slower'
    )
    return parser.parse_args()


@command
def main() -> None:
    arguments = parse_arguments()
    from evaluation.engine.train_and_test import train

    train(arguments)


if __name__ == '__main__':
    main()
