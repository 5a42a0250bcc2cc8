"""Run a trained detector, segmentor or classifier on your own images.

    python tools/predict.py configs/mask_rcnn_dcn_tiny.py epoch_12.pth photo.jpg photos/ --out found

IMAGES are files, folders or quoted patterns. A detector writes pictures and predictions.json (COCO
results with boxes, masks and image names), a segmentor writes pictures and PNG maps of class indices,
and a classifier writes predictions.json with the top-5 classes.
"""

import argparse
from pathlib import Path

from evaluation.utils.errors import CommandLine, UserError, command
from evaluation.utils.formats import positive


def parse_arguments() -> argparse.Namespace:
    from evaluation.config.overrides import add_backbone, add_overrides
    from evaluation.engine.experiment import WEIGHT_KEYS

    parser = CommandLine(__doc__)
    parser.add_argument('config', metavar='CONFIG', help='config file')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='path or URL of the weights')
    parser.add_argument('images', nargs='+', metavar='IMAGES', help='files, folders or patterns')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='output folder')
    parser.add_argument(
        '--score-threshold',
        type=float,
        default=0.3,
        metavar='S',
        help='omit instances with a lower score; default 0.3',
    )
    parser.add_argument(
        '--no-pictures', dest='pictures', action='store_false', help='do not write pictures'
    )
    parser.add_argument(
        '--batch-size', type=positive, default=1, metavar='N', help='images per batch; default 1'
    )
    parser.add_argument(
        '--device', metavar='cpu|cuda|cuda:N', help='default: the first GPU, else the CPU'
    )
    parser.add_argument(
        '--checkpoint-key', choices=WEIGHT_KEYS, help='weights to use if the file has several'
    )
    add_backbone(parser)
    add_overrides(parser)
    arguments = parser.parse_args()
    if not 0 <= arguments.score_threshold <= 1:
        raise UserError(f'--score-threshold is {arguments.score_threshold}; give a number from 0 to 1')
    return arguments


@command
def main() -> None:
    arguments = parse_arguments()
    from evaluation.engine.prediction import predict

    predict(arguments)


if __name__ == '__main__':
    main()
