"""Look at a whole data set before anything is trained on it, and list all that is wrong.

    python tools/check_data.py --data-root data/coco
    python tools/check_data.py --data-root data/ade/ADEChallengeData2016
    python tools/check_data.py --data-root data/boxes --config configs/faster_rcnn_swin_micro.py
    python tools/check_data.py --data-root data/imagenet --format json --output findings.json

Every image and every map is loaded as a training does. No file is changed: correct what is found
by hand, or train with --skip-bad-images, which leaves out images that cannot be loaded.

Exit status: 0 where nothing is wrong, 1 where something is, 2 for bad input, such as no data at all.
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
        '--data-root', type=user_path, required=True, metavar='DIR', help='what to look at'
    )
    parser.add_argument('--kind', choices=LAYOUTS, help='default: recognized by its folders')
    parser.add_argument(
        '--config',
        metavar='FILE',
        help='of a detector to train on coco; one without masks needs boxes alone',
    )
    parser.add_argument(
        '--num-classes',
        type=positive,
        metavar='N',
        help='of ade20k (default: 150), and of imagenet (default: those that have images)',
    )
    parser.add_argument(
        '--keep-zero-label',
        action='store_true',
        help='the maps count classes from 0, where those of ADE20K have 0 for what is ignored',
    )
    parser.add_argument(
        '--workers',
        type=positive,
        default=min(8, os.cpu_count() or 1),
        metavar='N',
        help='threads that load images (default: one a core, at most 8)',
    )
    parser.add_argument(
        '--examples', type=positive, default=3, metavar='N', help='of each kind (default: 3)'
    )
    parser.add_argument('--format', choices=('text', 'json'), default='text', help='json has all')
    parser.add_argument('--output', type=Path, metavar='FILE', help='default: standard output')
    return parser.parse_args()


@command
def main() -> None:
    """Look at the data, write what was found, and exit with its status."""
    arguments = parse_arguments()
    with quiet():
        from evaluation.data.check_data import examine
        from evaluation.data.findings import as_json, as_text
        from evaluation.utils.files import check_output, json_text, write_output

    with contextlib.redirect_stdout(sys.stderr):
        # Not after all was looked at.
        if arguments.output:
            check_output(arguments.output)
        examination = examine(arguments)
    if arguments.format == 'json':
        text = json_text(as_json(examination))
    else:
        text = as_text(examination, arguments.examples) + '\n'
    # Names of files need not be texts.
    content = text.encode(errors='backslashreplace')
    if arguments.output:
        write_output(arguments.output, content)
    else:
        sys.stdout.write(content.decode())
    if examination.findings:
        sys.exit(FINDINGS)


if __name__ == '__main__':
    main()
