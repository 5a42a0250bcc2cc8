import os
import platform
import subprocess
import sys

import pytest

from evaluation.utils.process_memory import SETTINGS
from tests.commands import ROOT

SCRIPT = """
import ctypes, resource, sys
import numpy as np
from evaluation.utils.process_memory import keep_freed_memory

PR_SET_THP_DISABLE = 41
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
kept = sys.argv[1] == 'keep' and keep_freed_memory()

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(5_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

new_pages()
print(int(kept), new_pages())
"""
PAGES = 5_000_000 * 8 // os.sysconf('SC_PAGE_SIZE')
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='glibc')


def kept_and_new_pages(*arguments, **settings):
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    environment |= settings
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        check=True,
    )
    kept, pages = map(int, done.stdout.split())
    return bool(kept), pages


def test_pages_are_allocated_once():
    kept, pages = kept_and_new_pages('keep')
    assert kept
    assert pages < PAGES / 20


def test_without_it_pages_are_allocated_every_time():
    assert kept_and_new_pages('leave')[1] >= PAGES


@pytest.mark.parametrize('name', SETTINGS)
def test_user_settings_are_kept(name):
    value = 'glibc.malloc.mmap_max=65536' if name == 'GLIBC_TUNABLES' else '131072'
    kept, pages = kept_and_new_pages('keep', **{name: value})
    assert not kept
    assert pages >= PAGES
