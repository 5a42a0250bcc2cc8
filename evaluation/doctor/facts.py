"""Facts about an environment: machine, packages, imports and data."""

import configparser
import importlib.metadata
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.data.findings import recognized

PROC = Path('/proc')
CGROUPS = Path('/sys/fs/cgroup')
SHARED_MEMORY = Path('/dev/shm')
SIMD = ('avx', 'avx2', 'fma', 'avx512f', 'avx512_bf16', 'amx_bf16', 'asimd', 'sve')
# Timeout of each command.
COMMAND_SECONDS = 5.0
REPOSITORY = Path(__file__).resolve().parent.parent.parent
OPENCV = ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python')
# Packages to report in addition to the required ones.
FURTHER = (*OPENCV, 'triton', 'tensorboard')
PROBE = 'evaluation.doctor.probe'
# The probe usually takes 5 s, but longer on a slow network drive.
PROBE_SECONDS = 120.0
DATA_ROOTS = ('data/coco', 'data/ade/ADEChallengeData2016', 'data/imagenet')


def machine_facts(work_dirs: Path) -> dict[str, Any]:
    """Return all facts about the machine, by section.

    Args:
        work_dirs: folder for results.
    """
    return {
        'system': {
            'system': platform.platform(),
            'python': platform.python_version(),
            'executable': sys.executable,
            'compiler': shutil.which('c++') or shutil.which('g++') or shutil.which('clang++'),
        },
        'cpu': cpu(),
        'memory': memory(),
        'limits': limits(),
        'disk': disk(work_dirs),
        'driver': driver(),
        'slurm': slurm(),
    }


def cpu() -> dict[str, Any]:
    """Return the processor and the number of cores that this process may use."""
    text = _text(PROC / 'cpuinfo')
    name = re.search(r'^model name\s*:\s*(.+)$', text, re.MULTILINE)
    flags = re.search(r'^(?:flags|Features)\s*:\s*(.+)$', text, re.MULTILINE)
    known = flags[1].split() if flags else []
    return {
        'name': name[1].strip() if name else platform.processor() or platform.machine(),
        'cores': os.cpu_count(),
        'cores_allowed': len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else None,
        'cores_of_quota': quota(own_cgroup('cpu') / 'cpu.max'),
        'simd': [name for name in SIMD if name in known],
        'threads_set': os.environ.get('OMP_NUM_THREADS'),
    }


def memory() -> dict[str, Any]:
    """Return bytes of memory: total, available, limit of the control group, shared."""
    text = _text(PROC / 'meminfo')
    sizes = {name: int(number) * 1024 for name, number in re.findall(r'(\w+):\s+(\d+) kB', text)}
    return {
        'total': sizes.get('MemTotal'),
        'available': sizes.get('MemAvailable'),
        'limit': memory_limit(),
        'shared': shutil.disk_usage(SHARED_MEMORY).total if SHARED_MEMORY.is_dir() else None,
        'shared_free': shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else None,
    }


def memory_limit() -> int | None:
    """Return the memory limit of the control group, version 2 or 1; None if there is none."""
    total = re.search(r'MemTotal:\s+(\d+) kB', _text(PROC / 'meminfo'))
    for file in (
        own_cgroup('memory') / 'memory.max',
        CGROUPS / 'memory.max',
        CGROUPS / 'memory/memory.limit_in_bytes',
    ):
        text = _text(file).strip()
        # Version 1 has a huge number if there is no limit.
        if text.isdecimal() and total and int(text) < int(total[1]) * 1024:
            return int(text)
    return None


def own_cgroup(controller: str) -> Path:
    """Return the folder of this process's control group."""
    for line in _text(PROC / 'self/cgroup').splitlines():
        _, controllers, path = line.split(':', 2)
        if not controllers or controller in controllers.split(','):
            return CGROUPS / controllers / path.lstrip('/')
    return CGROUPS


def quota(file: Path) -> float | None:
    """Return the number of cores that a control group's `cpu.max` allows; None if unlimited."""
    words = _text(file).split()
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0].isdecimal() else None


def limits() -> dict[str, Any]:
    """Return the soft and hard limits of open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {'open_files': soft, 'open_files_at_most': hard}


def disk(folder: Path) -> dict[str, Any]:
    """Return the free bytes in the folder for results, and whether it is writable."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    usage = shutil.disk_usage(place)
    return {'folder': str(folder), 'free': usage.free, 'writable': os.access(place, os.W_OK)}


def driver() -> dict[str, Any]:
    """Return the NVIDIA driver and its GPUs, whether or not torch sees them."""
    query = '--query-gpu=name,memory.total,driver_version,compute_cap'
    text = output_of('nvidia-smi', query, '--format=csv,noheader')
    loaded = re.search(r'Kernel Module.*?(\d+\.\d[\d.]*)', _text(PROC / 'driver/nvidia/version'))
    return {'loaded': loaded and loaded[1], 'gpus': text.splitlines() if text else []}


def slurm() -> dict[str, Any]:
    """Return the path of `sbatch` and the id of the current job."""
    return {'sbatch': shutil.which('sbatch'), 'job': os.environ.get('SLURM_JOB_ID')}


def output_of(*command: str) -> str | None:
    """Return the output of a command; None if it is missing or fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _text(file: Path) -> str:
    try:
        return file.read_text(errors='replace')
    except OSError:
        return ''


def package_facts(setup: Path = REPOSITORY / 'setup.cfg') -> dict[str, Any]:
    """Return versions by name, and packages that are missing or outside the required range."""
    wanted = requirements(setup)
    names = [name for name, _ in wanted] + [name for name in FURTHER if name not in dict(wanted)]
    versions = {name: installed(name) for name in names}
    unfit = [
        f'{name} {versions[name] or "missing"}, but {name}{range_} is required'
        for name, range_ in wanted
        if versions[name] is None or not is_in(versions[name], range_)
    ]
    return {'versions': versions, 'unfit': unfit}


def requirements(setup: Path) -> list[tuple[str, str]]:
    """Return the name and range, such as `>=2.6`, of each required package."""
    parser = configparser.ConfigParser()
    parser.read(setup)
    lines = parser.get('options', 'install_requires', fallback='').split('\n')
    found = []
    for line in filter(None, (line.partition('#')[0].strip() for line in lines)):
        name = line.partition('>')[0].partition('<')[0].partition('=')[0].strip()
        found.append((name, line[len(name) :].strip()))
    return found


def installed(name: str) -> str | None:
    """Return the version of a distribution; None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def is_in(version: str, range_: str) -> bool:
    """Return whether a version is in a range such as `>=0.10.12,<0.11`."""
    for bound in filter(None, range_.split(',')):
        number = as_numbers(bound.lstrip('<>='))
        ours = as_numbers(version)[: len(number)]
        ours += (0,) * (len(number) - len(ours))
        if bound.startswith('>=') and ours < number:
            return False
        if bound.startswith('<') and ours >= number:
            return False
    return True


def as_numbers(version: str) -> tuple[int, ...]:
    """Parse a version: `2.11.0+cpu` is (2, 11, 0)."""
    numbers = []
    for part in version.partition('+')[0].split('.'):
        digits = ''.join(letter for letter in part if letter.isdigit())
        if not digits or not part[0].isdigit():
            break
        numbers.append(int(digits))
    return tuple(numbers)


def gather(work_dirs: Path, data_roots: Sequence[Path]) -> dict[str, Any]:
    """Gather all facts, by section; unknown ones are None.

    Args:
        work_dirs: folder for results.
        data_roots: folders of data sets.
    """
    return {
        'git': git(),
        **machine_facts(work_dirs),
        'packages': package_facts(),
        **probed(),
        'data': {str(root): data_fact(root) for root in data_roots},
    }


def git() -> dict[str, Any]:
    """Return the revision of the suite, and whether files have changed; None outside a checkout."""
    revision = output_of('git', '-C', str(REPOSITORY), 'rev-parse', 'HEAD')
    changed = output_of('git', '-C', str(REPOSITORY), 'status', '--porcelain', '--untracked-files=no')
    return {'revision': revision, 'changed': None if changed is None else bool(changed)}


def data_fact(root: Path) -> str | None:
    """Return the layout of a data root, or `unknown layout`; None if the folder does not exist."""
    return (recognized(root) or 'unknown layout') if root.is_dir() else None


def probed(command: Sequence[str] = (sys.executable, '-m', PROBE)) -> dict[str, Any]:
    """Run the probe; return facts about importable packages, and `errors` of the others."""
    done = {'stdout': '', 'ending': None}
    try:
        process = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            cwd=REPOSITORY,
            check=False,
        )
        done['stdout'] = process.stdout
        if process.returncode:
            done['ending'] = f'the process exited with status {process.returncode}'
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b''
        done['stdout'] = output.decode() if isinstance(output, bytes) else output
        done['ending'] = f'did not finish within {PROBE_SECONDS:.0f} s'
    return read_probe(done['stdout'], done['ending'])


def read_probe(output: str, ending: str | None) -> dict[str, Any]:
    """Parse the output of a probe into facts and errors.

    Args:
        output: all lines of output.
        ending: description of an abnormal exit; None for a normal one.
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
