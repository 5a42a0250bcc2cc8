"""Evaluate a checkpoint.

    python tools/test.py configs/mask_rcnn_dcn_tiny.py work_dirs/mask_rcnn_dcn_tiny/epoch_12.pth

    python tools/test.py configs/mask_rcnn_dcn_tiny.py epoch_12.pth --shift coco-o data/coco-o

Writes the log and result.json to `work_dirs/<config name>/<time>`; `tools/table.py` collects them.
"""

import argparse
from pathlib import Path

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
    parser.add_argument(
        '--shift',
        nargs=2,
        metavar=('SUITE', 'DIR'),
        help='also test under distribution shift: coco-o, and the folder with its six domains',
    )
    return parser.parse_args()


@command
def main() -> None:
    arguments = parse_arguments()
    from evaluation.engine.train_and_test import test

    folder = test(arguments)
    if arguments.shift:
        print_shift(folder, arguments.shift[1])


def print_shift(folder: Path, data: str) -> None:
    """Write the summary of a test under shift and print its table, in the main process.

    Args:
        folder: folder of the results.
        data: folder of the domains.
    """
    from evaluation.analysis.shift import write_summary
    from evaluation.results.reading import load_results
    from evaluation.tables.shifted_table import shifted_tables
    from evaluation.utils.process_groups import process_rank
    from evaluation.utils.text_tables import to_markdown

    if process_rank() == 0:
        results = load_results([folder])
        write_summary(results, data)
        print('\n'.join(map(to_markdown, shifted_tables(results))), end='')


if __name__ == '__main__':
    main()
