"""Check a GPU in nine minutes: correctness, trainings, speed; what works, how fast, against targets.

    python tools/check_gpu.py
    python tools/check_gpu.py --quick
    python tools/check_gpu.py --stages operators speed --limit-seconds 120
    python tools/check_gpu.py --device cpu --quick
    python tools/check_gpu.py --write-docs work_dirs/check_gpu/check_gpu.json

Needs no data and no network. The stages run in order of worth, each in a process of its own with a time
limit; a stage that fails or runs over its limit does not stop the others. Results are written after
each stage to `check_gpu.json` in the work dir, and printed as Markdown at the end.

Exit status: 0 if no check failed, 1 if one did or a stage ended early, 2 for invalid input.
"""

import argparse
import json
import sys
from pathlib import Path

from evaluation.utils.errors import CommandLine, UserError, command
from evaluation.utils.formats import positive

BROKEN = 1
PAGE = Path('docs/performance.md')
FILE = 'check_gpu.json'


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    from evaluation.gpu_check.stages import STAGES

    names = [stage.name for stage in STAGES]
    parser = CommandLine(__doc__)
    parser.add_argument(
        '--device', metavar='cpu|cuda|cuda:N', help='default: the first GPU, else the CPU'
    )
    parser.add_argument(
        '--quick', action='store_true', help='small sizes and few repeats: a minute on a GPU'
    )
    parser.add_argument(
        '--stages',
        nargs='+',
        choices=names,
        default=names,
        metavar='STAGE',
        help=f'stages to run, by default all: {", ".join(names)}',
    )
    parser.add_argument(
        '--limit-seconds',
        type=positive,
        metavar='N',
        help='time limit for all stages; default: the sum of their limits, at most nine minutes',
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/check_gpu'),
        metavar='DIR',
        help='folder for results, data and logs; default: work_dirs/check_gpu',
    )
    parser.add_argument(
        '--write-docs',
        type=Path,
        metavar='FILE.json',
        help=f'run nothing, but write the tables of a finished check into {PAGE}',
    )
    return parser.parse_args()


@command
def main() -> None:
    """Run the stages, and print the tables."""
    arguments = parse_arguments()
    from evaluation.gpu_check.summary import has_failures, render, write_docs

    if arguments.write_docs:
        write_docs(read_check(arguments.write_docs), PAGE)
        return
    from evaluation.gpu_check.checks import Settings
    from evaluation.gpu_check.stages import run_stages
    from evaluation.utils.devices import find_device

    device = find_device(arguments.device)
    folder = arguments.work_dir.resolve()
    settings = Settings(str(device), arguments.quick, folder)
    content = run_stages(arguments.stages, settings, arguments.limit_seconds, folder / FILE, say)
    sys.stdout.write(render(content))
    say(f'all figures: {arguments.work_dir / FILE}')
    if has_failures(content):
        sys.exit(BROKEN)


def read_check(file: Path) -> dict:
    """Read the JSON of a finished check.

    Raises:
        UserError: it is missing or is something else.
    """
    from evaluation.gpu_check.stages import VERSION
    from evaluation.utils.files import read_text

    try:
        content = json.loads(read_text(file))
    except OSError as error:
        raise UserError(f'{file} cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise UserError(f'{file} is not JSON: {error}') from error
    if not (isinstance(content, dict) and content.get('version') == VERSION and 'stages' in content):
        raise UserError(f'{file} was not written by tools/check_gpu.py; give its {FILE}')
    return content


def say(line: str) -> None:
    """Print progress."""
    print(line, file=sys.stderr, flush=True)


if __name__ == '__main__':
    main()
