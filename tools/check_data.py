"""Check a whole data set before training and list all problems.

    python tools/check_data.py --data-root data/coco
    python tools/check_data.py --data-root data/ade/ADEChallengeData2016
    python tools/check_data.py --data-root data/boxes --config configs/faster_rcnn_swin_micro.py
    python tools/check_data.py --data-root data/imagenet --format json --output findings.json

Loads every image and every map as training does. No file is changed: fix the problems by hand, or
train with --skip-bad-images, which skips images that cannot be loaded.

Exit status: 0 if there are no problems, 1 if there are, 2 for invalid input, such as missing data.
"""

import argparse
import contextlib
import os
import sys
from pathlib import Path

from evaluation.data.findings import LAYOUTS
from evaluation.utils.errors import CommandLine, command
from evaluation.utils.files import user_path
from evaluation.utils.formats import positive
from evaluation.utils.library_output import quiet

FINDINGS = 1


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandLine(__doc__)
    parser.add_argument(
        '--data-root', type=user_path, required=True, metavar='DIR', help='root folder of the data set'
    )
    parser.add_argument('--kind', choices=LAYOUTS, help='layout (default: detected from the folders)')
    parser.add_argument(
        '--config',
        metavar='FILE',
        help='config of a detector to train on coco; one without masks needs only boxes',
    )
    parser.add_argument(
        '--num-classes',
        type=positive,
        metavar='N',
        help='classes of ade20k (default: 150) or imagenet (default: those that have images)',
    )
    parser.add_argument(
        '--keep-zero-label',
        action='store_true',
        help='class indices in the maps start at 0; in ADE20K, 0 means ignored',
    )
    parser.add_argument(
        '--workers',
        type=positive,
        default=min(8, os.cpu_count() or 1),
        metavar='N',
        help='threads that load images (default: one per core, at most 8)',
    )
    parser.add_argument(
        '--examples',
        type=positive,
        default=3,
        metavar='N',
        help='examples shown per problem (default: 3)',
    )
    parser.add_argument(
        '--format',
        choices=('text', 'json'),
        default='text',
        help='json lists all examples (default: text)',
    )
    parser.add_argument('--output', type=Path, metavar='FILE', help='default: standard output')
    return parser.parse_args()


@command
def main() -> None:
    """Check the data, write the findings, and exit with the status."""
    arguments = parse_arguments()
    with quiet():
        from evaluation.data.check_data import examine
        from evaluation.data.findings import as_json, as_text
        from evaluation.utils.files import check_output, json_text, write_output

    with contextlib.redirect_stdout(sys.stderr):
        # Fail before the long check, not after it.
        if arguments.output:
            check_output(arguments.output)
        examination = examine(arguments)
    if arguments.format == 'json':
        text = json_text(as_json(examination))
    else:
        text = as_text(examination, arguments.examples) + '\n'
    # File names need not be valid Unicode.
    content = text.encode(errors='backslashreplace')
    if arguments.output:
        write_output(arguments.output, content)
    else:
        sys.stdout.write(content.decode())
    if examination.findings:
        sys.exit(FINDINGS)


if __name__ == '__main__':
    main()
