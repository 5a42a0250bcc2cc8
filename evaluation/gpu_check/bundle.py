"""A folder with the project and the packages that an offline machine with a GPU may lack."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from evaluation.gpu_check.suite_commands import ROOT
from evaluation.utils.errors import UserError
from evaluation.utils.files import write_text

# The machine must have torch, torchvision, numpy, scipy, OpenCV and pillow, and should have Triton and
# numba. Everything else that the check imports is in the folder.
PACKAGES = (
    'addict',
    'attrs',
    'cloudpickle',
    'contourpy',
    'cycler',
    'faster-coco-eval',
    'filelock',
    'fonttools',
    'ftfy',
    'imagecorruptions-imaug',
    'imageio',
    'imaug',
    'jsonschema',
    'jsonschema-specifications',
    'kiwisolver',
    'lazy-loader',
    'markdown-it-py',
    'matplotlib',
    'mdurl',
    'packaging',
    'platformdirs',
    'prettytable',
    'pycocotools',
    'pygments',
    'pyparsing',
    'python-dateutil',
    'pyyaml',
    'referencing',
    'regex',
    'rich',
    'rpds-py',
    'safetensors',
    'scikit-image',
    'shapely',
    'six',
    'submitit',
    'termcolor',
    'terminaltables',
    'tifffile',
    'timm',
    'tqdm',
    'typing_extensions',
    'wcwidth',
    'yapf',
)
# Needed by packages above in older versions of Python only.
MORE_PACKAGES = {'3.10': ('tomli',)}
# Some are released as source only; their wheels are pure Python.
BUILT = ('onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection', 'onedl-mmsegmentation')
# Parts of the project that the check needs.
PARTS = ('backbones', 'evaluation', 'configs', 'tools', 'setup.cfg', 'pyproject.toml', 'LICENSE')
PLATFORMS = ('manylinux2014_x86_64', 'manylinux_2_27_x86_64', 'manylinux_2_28_x86_64', 'any')
PYTHONS = ('3.10', '3.11', '3.12')
MOST_BYTES = 60 * 2**20
# A line of constraints.txt.
PIN = re.compile(r'(?P<name>[\w.-]+)==(?P<version>[^;\s]+)(; python_version >= "(?P<least>[\d.]+)")?')
SCRIPT = """\
#!/usr/bin/env bash
# Check the GPU of this machine, without network: bash run.sh [options of tools/check_gpu.py]
# PYTHON=python3.12 chooses a Python.
set -euo pipefail
folder=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ "$found" != VERSION ]; then
  echo "error: this folder is for Python VERSION, $python is $found; set PYTHON=python""VERSION" >&2
  exit 2
fi
if ! "$python" -c 'import torch, torchvision, numpy, scipy, cv2, PIL'; then
  echo "error: $python needs torch, torchvision, numpy, scipy, opencv and pillow; install them" >&2
  exit 2
fi
if [ ! -d "$folder/site" ]; then
  rm -rf "$folder/site.unfinished"
  "$python" -m pip install --quiet --no-index --no-deps \\
    --target "$folder/site.unfinished" "$folder"/wheels/*.whl
  mv "$folder/site.unfinished" "$folder/site"
fi
export PYTHONPATH="$folder/project:$folder/site${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" "$folder/project/tools/check_gpu.py" "$@"
"""


def pins(python: str) -> dict[str, str]:
    """Return the tested version of each package for a version of Python, by lower-case name."""
    lines = (ROOT / 'constraints.txt').read_text(encoding='utf-8').splitlines()
    found = {}
    for pin in filter(None, map(PIN.fullmatch, lines)):
        if _numbers(python) >= _numbers(pin['least'] or '0'):
            found[_canonical(pin['name'])] = f'=={pin["version"]}'
    return found


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split('.')]


def _canonical(name: str) -> str:
    return name.lower().replace('_', '-').replace('.', '-')


def write_bundle(folder: Path, python: str, say: Callable[[str], None]) -> int:
    """Write the folder.

    Args:
        folder: folder to write; must not exist.
        python: version of Python on the other machine, one of `PYTHONS`.
        say: prints a line of progress.

    Returns:
        Its size in bytes.

    Raises:
        UserError: the folder exists, a package cannot be downloaded, or the folder is too large.
    """
    if folder.exists():
        raise UserError(f'{folder} exists; remove it, or give another folder')
    unfinished = folder.with_name(f'{folder.name}.unfinished')
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        say('copying the project')
        copy_project(unfinished / 'project')
        say(f'downloading {len(PACKAGES) + len(BUILT)} packages for Python {python}')
        download(unfinished / 'wheels', python)
        write_text(unfinished / 'run.sh', SCRIPT.replace('VERSION', python))
        size = sum(file.stat().st_size for file in unfinished.rglob('*') if file.is_file())
        if size > MOST_BYTES:
            raise UserError(f'the folder has {size / 2**20:.0f} MiB, more than {MOST_BYTES // 2**20}')
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return size


def copy_project(target: Path) -> None:
    """Copy the needed parts of the project, without compiled files."""
    target.mkdir()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            ignored = shutil.ignore_patterns('__pycache__', '*.pyc', '.*')
            shutil.copytree(source, target / part, ignore=ignored)
        else:
            shutil.copy(source, target / part)


def download(target: Path, python: str) -> None:
    """Download wheels in the tested versions, without those that they depend on.

    Raises:
        UserError: pip failed; the message is its last line.
    """
    versions = pins(python)
    names = (*PACKAGES, *MORE_PACKAGES.get(python, ()))
    wanted = [name + versions.get(_canonical(name), '') for name in names]
    for_that = [f'--python-version={python}', '--only-binary=:all:', '--implementation=cp']
    for_that += [f'--platform={platform}' for platform in PLATFORMS]
    _pip('download', '--no-deps', f'--dest={target}', *for_that, *wanted)
    _pip('wheel', '--no-deps', f'--wheel-dir={target}', *(name + versions[name] for name in BUILT))
    impure = [file.name for file in target.glob('onedl*') if not file.name.endswith('py3-none-any.whl')]
    if impure:
        raise UserError(f'{impure[0]} is not pure Python and may not run on another machine')


def _pip(*arguments: str) -> None:
    command = [sys.executable, '-m', 'pip', '--disable-pip-version-check', *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, 'PIP_QUIET': '1'})
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ['no message']
        raise UserError(f'pip {arguments[0]} failed: {lines[-1]}')
