"""Environment setup, with fake Python and pip."""

import os
import subprocess
import sys

import pytest

from tests.commands import ROOT
from tools import set_up

# Stands in for `python -m venv DIR` and, inside DIR, for `python -m pip ...`.
PYTHON = """#!{python}
import pathlib, sys
packages = pathlib.Path(__file__).parents[1] / 'lib/python3.11/site-packages'
with open(packages / 'calls', 'a') as calls:
    print(*sys.argv[1:], file=calls)
print('Collecting torch==2.11.0')
print('  Downloading torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl (5 MB)')
print('Installing collected packages: torch')
(packages / 'torch-2.11.0.dist-info').mkdir(exist_ok=True)
if {fails}:
    print('ERROR: No matching distribution found for torch==2.11.0')
    sys.exit(1)
"""


def environment(tmp_path, fails=False):
    (tmp_path / 'env/bin').mkdir(parents=True)
    (tmp_path / 'env/lib/python3.11/site-packages').mkdir(parents=True)
    python = tmp_path / 'env/bin/python'
    python.write_text(PYTHON.format(python=sys.executable, fails=fails))
    python.chmod(0o755)
    return tmp_path / 'env'


def run(folder):
    command = [sys.executable, 'tools/set_up.py', str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_installs_the_tested_set_and_opencv_last(tmp_path):
    folder = environment(tmp_path)
    done = run(folder)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.splitlines()[0].startswith(f'Setting up {folder}')
    assert done.stdout.splitlines()[-1] == f'{folder} is ready'
    packages, opencv = (folder / 'lib/python3.11/site-packages/calls').read_text().splitlines()
    assert packages.endswith('install -c constraints.txt --progress-bar off -e .[test]')
    assert opencv.endswith('--force-reinstall --no-deps opencv-python-headless')
    log = (folder / 'setup.log').read_text()
    assert 'Collecting torch' in log


def test_shows_the_errors_of_pip(tmp_path):
    folder = environment(tmp_path, fails=True)
    done = run(folder)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        'ERROR: No matching distribution found for torch==2.11.0',
        f'error: pip failed; its whole output is in {folder}/setup.log',
    ]
    assert len((folder / 'lib/python3.11/site-packages/calls').read_text().splitlines()) == 1


@pytest.mark.parametrize('version', [(3, 9, 1), (3, 13, 0)])
def test_unsupported_python_versions_are_refused(version, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, 'version_info', version)
    monkeypatch.setattr(sys, 'argv', ['set_up.py', str(tmp_path / 'env')])
    assert set_up.main() == 2
    assert f'is Python {version[0]}.{version[1]}; 3.10 to 3.12 are supported' in capsys.readouterr().err
    assert not os.listdir(tmp_path)


def test_progress_line(tmp_path):
    progress = set_up.ProgressLine(tmp_path, expected=4)
    assert progress.line() == f'[{"":30}] 0:00 asking the package index'
    for line in ('Collecting a\n', 'Collecting b\n', '  Downloading nvidia_nccl-2.1-py3.whl (9 MB)\n'):
        progress.read(line)
    assert progress.line() == f'[{"#" * 8:30}] 0:00 downloading nvidia_nccl, 9 MB'
    for name in 'abcd':
        (tmp_path / f'{name}-1.dist-info').mkdir()
        progress.read(f'Collecting {name}\n')
    progress.read('Installing collected packages: a, b, c, d\n')
    assert progress.line() == f'[{"#" * 30}] 0:00 installing'
