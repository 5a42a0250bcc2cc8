"""Write a folder that checks a GPU on a machine without network: the project and packages, no torch.

    python tools/gpu_bundle.py --python 3.12
    bash gpu_bundle/run.sh        # on the other machine

That machine needs Python 3.10 to 3.12 with torch, torchvision, numpy, scipy, OpenCV and pillow; Triton
and numba if they are to be used. Options of run.sh are those of tools/check_gpu.py.
"""

import argparse
import sys
from pathlib import Path

from evaluation.utils.errors import CommandLine, command

DEFAULT = Path('gpu_bundle')


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    from evaluation.gpu_check.bundle import PYTHONS

    here = f'{sys.version_info[0]}.{sys.version_info[1]}'
    parser = CommandLine(__doc__)
    parser.add_argument(
        '--python',
        choices=PYTHONS,
        default=here,
        help=f'version of Python on the other machine; default: that of this one, {here}',
    )
    parser.add_argument(
        '--output',
        type=Path,
        default=DEFAULT,
        metavar='DIR',
        help=f'folder to write; default: {DEFAULT}',
    )
    return parser.parse_args()


@command
def main() -> None:
    """Write the folder."""
    arguments = parse_arguments()
    from evaluation.gpu_check.bundle import write_bundle

    size = write_bundle(arguments.output, arguments.python, say)
    say(f'{arguments.output} has {size / 2**20:.0f} MiB; copy it, and run: bash {DEFAULT}/run.sh')


def say(line: str) -> None:
    """Print progress."""
    print(line, file=sys.stderr, flush=True)


if __name__ == '__main__':
    main()
