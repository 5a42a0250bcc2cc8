"""Damage data in hundreds of ways, and see that each is used or refused in one clear line.

    python -m tests.faults.fuzz_data --trials 200
    python -m tests.faults.fuzz_data --task coco --seed 17 --trials 1

Every trial is a fork of one process that has all libraries. It fails where it ends otherwise than a
command should: with a traceback, without an end, with another figure than the data have; and where
tools/check_data.py finds nothing in data that a training refuses. Exit status 1 if one failed.
"""

import argparse
import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.commands import LIBRARIES

SECONDS = 60
# Beyond what a trial has from the start.
MOST_MEMORY = 2 << 30
NAMES = ('coco', 'ade20k', 'imagenet')
# Most of what can be wrong is in COCO's files.
CYCLE = ('coco', 'ade20k', 'coco', 'imagenet', 'coco')


def write_data(folder: Path) -> None:
    """Generate small data of each task."""
    from evaluation.demo.scene_datasets import write_datasets
    from evaluation.demo.scenes import SceneStyle
    from tests.evaluation.data.class_folders import write_lists

    write_datasets(folder, SceneStyle(height=64, width=64), {'train': 4, 'val': 3}, seed=0)
    write_lists(folder / 'imagenet')


def in_a_fork(source: Path, name: str, seed: int) -> dict:
    """Result of a trial, run in a fork of this process and ended after `SECONDS`."""
    readable, writable = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if not child:
            os.close(readable)
            _become_a_trial(source, Path(folder), name, seed, writable)
        os.close(writable)
        with os.fdopen(readable, 'rb') as pipe:
            content = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0 and content:
        return json.loads(content)
    ended = 'no end' if -status == signal.SIGALRM else f'ended by status {status}'
    return {'what': f'{name} {seed}', 'status': status, 'line': '', 'fault': ended}


def _become_a_trial(source: Path, folder: Path, name: str, seed: int, output: int) -> None:
    signal.alarm(SECONDS)
    os.setpgid(0, 0)
    from tests.faults.data_trial import SilentError, report, run_trial

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.chdir(folder)
    try:
        result = run_trial(source, folder, name, seed)
    except SilentError as error:
        result = {'what': f'{name} {seed}', 'status': 0, 'line': str(error), 'fault': 'silently wrong'}
    except BaseException:
        text = traceback.format_exc()
        result = {'what': f'{name} {seed}', 'status': 1, 'line': text, 'fault': 'traceback'}
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if (after - before) * 1024 > MOST_MEMORY:
        result['fault'] = result['fault'] or 'too much memory'
    report(result, output)


def main() -> None:
    """Do the trials and print how they ended."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--trials', type=int, default=200, help='how many (default: 200)')
    parser.add_argument('--seed', type=int, default=0, help='of the first trial; the next has the next')
    parser.add_argument('--task', choices=NAMES, help='default: all, COCO the most often')
    parser.add_argument('--verbose', action='store_true', help='print every trial')
    parser.add_argument('--json', type=Path, help='also write all results here')
    arguments = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):
        for library in (*LIBRARIES, 'tests.faults.data_trial'):
            importlib.import_module(library)
    with tempfile.TemporaryDirectory() as source:
        write_data(Path(source))
        results = list(_trials(arguments, Path(source)))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    counts = Counter(
        result['fault'] or ('refused' if result['status'] else 'used') for result in results
    )
    print(f'{len(results)} trials: ' + ', '.join(f'{n} {ending}' for ending, n in counts.items()))
    sys.exit(any(result['fault'] for result in results))


def _trials(arguments: argparse.Namespace, source: Path) -> list[dict]:
    started = reported = time.monotonic()
    for number in range(arguments.trials):
        seed = arguments.seed + number
        name = arguments.task or CYCLE[seed % len(CYCLE)]
        result = {'task': name, 'seed': seed, **in_a_fork(source, name, seed)}
        if result['fault'] or arguments.verbose:
            ending = result['fault'] or ('refused' if result['status'] else 'used')
            print(f'{name} {seed}: {ending}: {result["what"]}\n    {result["line"]}', flush=True)
        if time.monotonic() - reported > 10:
            reported = time.monotonic()
            left = (reported - started) / (number + 1) * (arguments.trials - number - 1)
            print(f'  {number + 1} of {arguments.trials}, about {left:.0f} s left', file=sys.stderr)
        yield result


if __name__ == '__main__':
    main()
