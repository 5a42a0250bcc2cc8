"""All facts in one place."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.data.examination.layouts import recognized
from evaluation.doctor.machine import machine_facts, output_of
from evaluation.doctor.packages import REPOSITORY, package_facts

PROBE = 'evaluation.doctor.probe'
# Ordinarily it takes five; a folder on a slow network takes longer.
SECONDS = 120.0
DATA_ROOTS = ('data/coco', 'data/ade/ADEChallengeData2016', 'data/imagenet')


def gather(work_dirs: Path, data_roots: Sequence[Path]) -> dict[str, Any]:
    """Everything that is worth knowing, by section; what cannot be found out is None.

    Args:
        work_dirs: where results would be written.
        data_roots: of data sets.
    """
    return {
        'git': git(),
        **machine_facts(work_dirs),
        'packages': package_facts(),
        **probed(),
        'data': {str(root): data_fact(root) for root in data_roots},
    }


def git() -> dict[str, Any]:
    """Revision of the suite, and whether files were changed; None outside of a checkout."""
    revision = output_of('git', '-C', str(REPOSITORY), 'rev-parse', 'HEAD')
    changed = output_of('git', '-C', str(REPOSITORY), 'status', '--porcelain', '--untracked-files=no')
    return {'revision': revision, 'changed': None if changed is None else bool(changed)}


def data_fact(root: Path) -> str | None:
    """Layout of a data root, `unknown layout` where it has none; None where it is not there."""
    return (recognized(root) or 'unknown layout') if root.is_dir() else None


def probed(command: Sequence[str] = (sys.executable, '-m', PROBE)) -> dict[str, Any]:
    """What can be imported: facts of what can, and `errors` of what cannot."""
    done = {'stdout': '', 'ending': None}
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, cwd=REPOSITORY, check=False
        )
        done['stdout'] = process.stdout
        if process.returncode:
            done['ending'] = f'ended the process with status {process.returncode}'
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b''
        done['stdout'] = output.decode() if isinstance(output, bytes) else output
        done['ending'] = f'did not end within {SECONDS:.0f} s'
    return read_probe(done['stdout'], done['ending'])


def read_probe(output: str, ending: str | None) -> dict[str, Any]:
    """Facts and errors from the lines that a probe printed.

    Args:
        output: all lines.
        ending: how it ended otherwise than it should; None if it ended well.
    """
    found: dict[str, Any] = {'imports': {}, 'errors': {}}
    begun = None
    for line in output.splitlines():
        answer = json.loads(line)
        if 'facts' in answer:
            found['imports'][answer['step']] = answer['facts']
        elif 'error' in answer:
            found['errors'][answer['step']] = answer['error']
        begun = answer['step'] if len(answer) == 1 else None
    if ending:
        found['errors'][begun or 'python'] = ending
    return found
