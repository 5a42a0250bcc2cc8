import subprocess
import sys

import pytest

from tests.commands import ROOT
from tests.launching import free_port

SCRIPT = """
import os
import sys
from evaluation.utils.errors import UserError, command

class AtTheVeryEnd:
    def __del__(self):
        os.write(1, b'taken apart')

def main():
    import atexit
    if {torch}:
        import torch
    if {group}:
        torch.distributed.init_process_group(
            'gloo', init_method='tcp://127.0.0.1:{port}', rank=0, world_size=1
        )
    atexit.register(print, 'registered later')
    sys.stdout.write('not flushed yet; ')
    {end}

kept = AtTheVeryEnd()
command(main)()
"""


def ended(group, end, torch=True):
    script = SCRIPT.format(group=group, torch=torch, end=end, port=free_port())
    return subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, cwd=ROOT)


ENDS = {
    'pass': (0, ''),
    'raise UserError("no such file")': (2, 'error: no such file'),
    'raise RuntimeError("a defect")': (1, 'RuntimeError: a defect'),
    'sys.exit(7)': (7, ''),
    'sys.exit("why")': (1, 'why'),
    'sys.exit()': (0, ''),
}


@pytest.mark.parametrize(
    ('group', 'torch', 'end'),
    [
        *((True, True, end) for end in ENDS),
        *((False, False, end) for end in ENDS),
        (False, True, 'sys.exit(7)'),
    ],
)
def test_status_and_output_are_kept(group, torch, end):
    done = ended(group, end, torch)
    status, message = ENDS[end]
    assert done.returncode == status
    assert done.stdout.startswith('not flushed yet; registered later\n')
    assert done.stderr.rstrip().endswith(message)
    assert bool(done.stderr) is bool(message)


@pytest.mark.parametrize('group', [True, False])
def test_interpreter_is_finalized_only_outside_a_group(group):
    assert ('taken apart' in ended(group, 'pass').stdout) is not group
