"""`tools/doctor.py`: the page, its JSON, and broken packages."""

import json
import os
import subprocess
import sys

import torch

from tests.commands import ROOT


def doctor(*arguments, **environment):
    return subprocess.run(
        [sys.executable, 'tools/doctor.py', *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_page(scenes):
    done = doctor('--data-root', scenes / 'coco', scenes / 'nowhere')
    assert done.returncode == 0, done.stdout + done.stderr
    assert f'\ntorch              {torch.__version__}, CUDA ' in done.stdout
    assert f'\ndata               {scenes / "coco"}: coco\n' in done.stdout
    assert f'\ndata               {scenes / "nowhere"}: missing\n' in done.stdout
    assert '\nerror: ' not in done.stdout
    assert '\x1b' not in done.stdout


def test_broken_packages(tmp_path):
    """A package that cannot be imported, one that ends the process, and packages that need them."""
    (tmp_path / 'mmdet').mkdir()
    (tmp_path / 'mmdet/__init__.py').write_text('raise ImportError("libGL.so.1: cannot open")\n')
    (tmp_path / 'mmseg').mkdir()
    (tmp_path / 'mmseg/__init__.py').write_text('import os\nos.abort()\n')
    done = doctor('--format', 'json', PYTHONPATH=f'{tmp_path}:{ROOT}')
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert found['errors'] == {
        'mmdet': 'ImportError: libGL.so.1: cannot open',
        'mmseg': 'the process exited with status -6',
    }
    assert found['imports']['torch']['version'] == torch.__version__
    first = found['advice'][0]
    assert first['level'] == 'error'
    assert 'mmdet does not work: ImportError: libGL.so.1: cannot open; pip install' in first['text']
