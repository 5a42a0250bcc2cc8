"""Damage data in hundreds of ways, and check that they are used or refused in one clear line.

    python -m tests.faults.fuzz_data --trials 200
    python -m tests.faults.fuzz_data --task coco --seed 17 --trials 1

Every trial is a fork of a process that has imported all libraries. It fails if it prints a traceback,
does not end, or gives wrong figures, or if tools/check_data.py finds nothing in data that a training
refuses. The exit status is 1 if a trial failed.
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
# In bytes, in addition to the memory at the start of a trial.
MOST_MEMORY = 2 << 30
NAMES = ('coco', 'ade20k', 'imagenet')
# COCO files can be wrong in the most ways.
CYCLE = ('coco', 'ade20k', 'coco', 'imagenet', 'coco')


def write_data(folder: Path) -> None:
    """Generate small data for each task."""
    from evaluation.scenes.scene_datasets import write_datasets
    from evaluation.scenes.scenes import SceneStyle
    from tests.evaluation.data.class_folders import write_lists

    write_datasets(folder, SceneStyle(height=64, width=64), {'train': 4, 'val': 3}, seed=0)
    write_lists(folder / 'imagenet')


def in_a_fork(source: Path, name: str, seed: int) -> dict:
    """Run a trial in a fork of this process, for at most `SECONDS`, and return its result."""
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
    """Run the trials and print how they ended."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--trials', type=int, default=200, help='number of trials (default: 200)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the first trial, then counted up')
    parser.add_argument('--task', choices=NAMES, help='data to damage (default: all, mostly COCO)')
    parser.add_argument('--verbose', action='store_true', help='print every trial')
    parser.add_argument('--json', type=Path, help='also write all results to this file')
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
