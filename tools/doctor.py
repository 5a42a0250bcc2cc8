"""Describe this machine and environment on one page, and list what is wrong or slow.

    python tools/doctor.py
    python tools/doctor.py --data-root /data/coco --format json

Include the output in bug reports. Works in a broken environment: packages that cannot be imported are
listed. Exit status: 0, or 1 if a problem keeps commands from running.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from evaluation.doctor.advice import ERROR, advise, page
from evaluation.doctor.facts import DATA_ROOTS, gather
from evaluation.utils.errors import CommandLine, command
from evaluation.utils.files import json_text, user_path

BROKEN = 1


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandLine(__doc__)
    parser.add_argument(
        '--data-root',
        nargs='+',
        type=user_path,
        default=[Path(root) for root in DATA_ROOTS],
        metavar='DIR',
        help='data sets to look for (default: the folders in the configs)',
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs'),
        metavar='DIR',
        help='folder for results (default: work_dirs)',
    )
    parser.add_argument('--format', choices=('text', 'json'), default='text', help='default: text')
    return parser.parse_args()


@command
def main() -> None:
    """Gather facts, derive advice, and write both."""
    arguments = parse_arguments()
    facts = gather(arguments.work_dir, arguments.data_root)
    advice = advise(facts)
    if arguments.format == 'json':
        text = json_text({**facts, 'advice': [dataclasses.asdict(line) for line in advice]})
    else:
        text = page(facts, advice, colored=sys.stdout.isatty())
    sys.stdout.write(text)
    if any(line.level == ERROR for line in advice):
        sys.exit(BROKEN)


if __name__ == '__main__':
    main()
