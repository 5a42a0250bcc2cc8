"""The folder for a machine without network: pins, project, script and failures of pip."""

import json
import os
import subprocess
import sys

import pytest

from evaluation.gpu_check import bundle
from evaluation.gpu_check.suite_commands import ROOT
from evaluation.utils.errors import UserError

WHEEL = 'toy-1.0-py3-none-any.whl'


@pytest.fixture
def pip(monkeypatch):
    """Replace pip's downloads by a wheel of a toy package; return the commands."""
    calls = []

    def call(*arguments):
        calls.append(arguments)
        target = next(each.partition('=')[2] for each in arguments if '-dir=' in each or 'dest=' in each)
        os.makedirs(target, exist_ok=True)
        with open(f'{target}/{WHEEL}', 'wb') as file:
            file.write(b'0' * 100)

    monkeypatch.setattr(bundle, '_pip', call)
    return calls


def test_pins_depend_on_the_version_of_python():
    assert bundle.pins('3.12')['pycocotools'] == '==2.0.11'
    assert 'matplotlib' in bundle.pins('3.12')
    # The tested version has left Python 3.10 behind.
    assert 'matplotlib' not in bundle.pins('3.10')


def test_every_package_has_a_pin():
    pins = bundle.pins('3.12')
    for name in (*bundle.PACKAGES, *bundle.BUILT):
        assert bundle._canonical(name) in pins, name
    assert not {'torch', 'torchvision', 'triton'} & set(bundle.PACKAGES)


# What the other machine must or should have, with what PyTorch depends on.
MACHINE = {
    *('torch', 'torchvision', 'numpy', 'scipy', 'opencv-python', 'opencv-python-headless', 'pillow'),
    *('triton', 'numba', 'llvmlite'),
    # jsonschema checks formats with it, if it is there.
    'idna',
    *('filelock', 'fsspec', 'jinja2', 'markupsafe', 'mpmath', 'networkx', 'setuptools', 'sympy'),
}
IMPORTS = """
import importlib, json, pkgutil, sys
from importlib.metadata import packages_distributions
# timm does without it.
sys.modules['huggingface_hub'] = None
names = [f'{lib}.{part}' for lib in ('mmdet', 'mmseg') for part in ('datasets', 'models', 'engine')]
for root in ('backbones', 'evaluation'):
    found = pkgutil.walk_packages(importlib.import_module(root).__path__, f'{root}.')
    names += [module.name for module in found]
for name in names:
    importlib.import_module(name)
tops = {name.partition('.')[0] for name, module in sys.modules.items() if module}
owners = packages_distributions()
print('found', json.dumps(sorted({owner for top in tops for owner in owners.get(top, ())})))
"""


def test_has_all_that_the_suite_imports():
    done = subprocess.run(
        [sys.executable, '-c', IMPORTS], capture_output=True, text=True, cwd=ROOT, check=True
    )
    imported = json.loads(done.stdout.splitlines()[-1].removeprefix('found '))
    imported = {bundle._canonical(name) for name in imported} - {'dense-mixer-bench'}
    bundled = {bundle._canonical(name) for name in (*bundle.PACKAGES, *bundle.BUILT)}
    assert len(imported) > 30
    assert imported <= bundled | MACHINE


def test_folder(tmp_path, pip):
    folder = tmp_path / 'bundle'
    size = bundle.write_bundle(folder, '3.12', lambda line: None)
    assert size == sum(file.stat().st_size for file in folder.rglob('*') if file.is_file())
    assert sorted(path.name for path in folder.iterdir()) == ['project', 'run.sh', 'wheels']
    assert (folder / 'project/configs/_base_/check_gpu_mask_rcnn.py').is_file()
    assert (folder / 'project/evaluation/results/schema_v3.json').is_file()
    assert not list(folder.rglob('__pycache__'))
    download, wheel = pip
    assert '--python-version=3.12' in download
    assert 'pycocotools==2.0.11' in download
    assert 'onedl-mmcv==2.3.6' in wheel
    # The copy runs by itself.
    done = subprocess.run(
        [sys.executable, folder / 'project/tools/check_gpu.py', '--help'],
        env={**os.environ, 'PYTHONPATH': str(folder / 'project')},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert '--limit-seconds' in done.stdout


def test_a_different_python_is_refused(tmp_path, pip):
    other = next(
        each for each in bundle.PYTHONS if sys.version_info[:2] != tuple(map(int, each.split('.')))
    )
    bundle.write_bundle(tmp_path / 'bundle', other, lambda line: None)
    done = subprocess.run(
        ['bash', tmp_path / 'bundle/run.sh'],
        env={**os.environ, 'PYTHON': sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f'error: this folder is for Python {other}, ')
    assert not (tmp_path / 'bundle/site').exists()


def test_nothing_is_left_of_a_failure(tmp_path, pip, monkeypatch):
    folder = tmp_path / 'bundle'
    monkeypatch.setattr(bundle, 'MOST_BYTES', 1000)
    with pytest.raises(UserError, match='MiB, more than'):
        bundle.write_bundle(folder, '3.12', lambda line: None)
    assert not list(tmp_path.iterdir())
    folder.mkdir()
    with pytest.raises(UserError, match='exists; remove it'):
        bundle.write_bundle(folder, '3.12', lambda line: None)


def test_pip_that_fails(tmp_path):
    with pytest.raises(UserError, match=r'pip download failed: .*no-such-package'):
        bundle._pip('download', '--no-index', '--dest', str(tmp_path), 'no-such-package')


def test_parts_exist():
    assert all((ROOT / part).exists() for part in bundle.PARTS)


def test_older_pythons_need_more(tmp_path, pip):
    for python in ('3.10', '3.12'):
        bundle.write_bundle(tmp_path / python, python, lambda line: None)
    (older, _, newer, _) = pip
    assert set(bundle.MORE_PACKAGES['3.10']) <= set(older)
    assert not set(bundle.MORE_PACKAGES['3.10']) & set(newer)
