"""Train a detector, segmentor or classifier.

    python tools/train.py configs/mask_rcnn_dcn_tiny.py --pretrained released

Writes logs, checkpoints, the config and one result.json per evaluation to `work_dirs/<config name>`.
"""

import argparse

from evaluation.utils.errors import CommandLine, command
from evaluation.utils.formats import whole


def parse_arguments() -> argparse.Namespace:
    from evaluation.engine.experiment import add_common_arguments
    from evaluation.engine.protocol_options import add_protocol_options

    parser = CommandLine(__doc__)
    parser.add_argument('config', help='config file')
    add_common_arguments(parser)
    parser.add_argument(
        '--pretrained',
        metavar='CHECKPOINT',
        help='initial weights of the backbone: a path, a URL, `released` or `scratch`; default: from '
        'scratch',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='latest',
        metavar='CHECKPOINT',
        help='resume from this checkpoint, or from the latest in the work dir (also: auto)',
    )
    add_protocol_options(parser)
    parser.add_argument('--amp', action='store_true', help='train with mixed precision (GPU)')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size'
    )
    parser.add_argument(
        '--seed',
        type=whole,
        metavar='N',
        help="random seed; default: the config's randomness.seed, or 0",
    )
    parser.add_argument(
        '--deterministic', action='store_true', help='use only deterministic algorithms; slower'
    )
    return parser.parse_args()


@command
def main() -> None:
    arguments = parse_arguments()
    from evaluation.engine.train_and_test import train

    train(arguments)


if __name__ == '__main__':
    main()
