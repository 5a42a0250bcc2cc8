"""Compiled code is cached for other processes until its sources change."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import backbones

ADD_ONE = """
from backbones.ops.cpu.compiled import compiled
from backbones.ops.cpu.constant import ONE

@compiled
def add_one(x):
    return x + ONE

print(add_one(1), sum(add_one.stats.cache_hits.values()))
"""


def test_code_is_cached_until_any_source_changes(tmp_path):
    sources = tmp_path / 'backbones' / 'ops' / 'cpu'
    sources.mkdir(parents=True)
    shutil.copy(Path(backbones.__file__).parent / 'ops/cpu/compiled.py', sources)
    for folder in (sources.parent.parent, sources.parent, sources):
        (folder / '__init__.py').touch()
    (sources / 'own.py').write_text(ADD_ONE)

    def run(one, cache):
        (sources / 'constant.py').write_text(f'ONE = {one}\n')
        environment = {**os.environ, 'PYTHONPATH': str(tmp_path), 'XDG_CACHE_HOME': str(cache)}
        environment.pop('NUMBA_CACHE_DIR', None)
        command = [sys.executable, '-c', 'import backbones.ops.cpu.own']
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return tuple(map(int, done.stdout.split()))

    cache = tmp_path / 'cache'
    assert run(1, cache) == (2, 0)
    assert run(1, cache) == (2, 1)
    assert run(5, cache) == (6, 0)
