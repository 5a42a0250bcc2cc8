"""Evaluate a checkpoint.

    python tools/test.py configs/mask_rcnn_dcn_tiny.py work_dirs/mask_rcnn_dcn_tiny/epoch_12.pth

Writes the log and result.json to `work_dirs/<config name>/<time>`; `tools/table.py` collects them.
"""

import argparse

from evaluation.utils.errors import CommandLine, command


def parse_arguments() -> argparse.Namespace:
    from evaluation.engine.experiment import add_common_arguments

    parser = CommandLine(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    add_common_arguments(parser)
    parser.add_argument('--out', metavar='FILE.pkl', help='also write all predictions as a pickle')
    parser.add_argument(
        '--format-only',
        metavar='DIR',
        help='write predictions in the format of evaluation servers; needs no annotations',
    )
    parser.add_argument(
        '--show-dir', help='also draw predictions next to the ground truth in this folder'
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test-time augmentation: several scales and flips of each image',
    )
    return parser.parse_args()


@command
def main() -> None:
    arguments = parse_arguments()
    from evaluation.engine.train_and_test import test

    test(arguments)


if __name__ == '__main__':
    main()
