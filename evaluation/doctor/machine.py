"""Facts of the machine: processor, memory, limits, disk, Slurm. Nothing here imports a package."""

import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

PROC = Path('/proc')
CGROUPS = Path('/sys/fs/cgroup')
SHARED_MEMORY = Path('/dev/shm')
SIMD = ('avx', 'avx2', 'fma', 'avx512f', 'avx512_bf16', 'amx_bf16', 'asimd', 'sve')
# Of the commands that are asked for something.
SECONDS = 5.0


def machine_facts(work_dirs: Path) -> dict[str, Any]:
    """All facts of the machine, by section.

    Args:
        work_dirs: where results would be written.
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
    """Processor, and how many of its cores this process may use."""
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
    """Bytes of memory that the machine has and has free, the control group's limit, shared memory."""
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
    """Bytes that the control group allows, of version 2 or 1; None where it does not limit them."""
    total = re.search(r'MemTotal:\s+(\d+) kB', _text(PROC / 'meminfo'))
    for file in (
        own_cgroup('memory') / 'memory.max',
        CGROUPS / 'memory.max',
        CGROUPS / 'memory/memory.limit_in_bytes',
    ):
        text = _text(file).strip()
        # Version 1 has a huge number for no limit.
        if text.isdecimal() and total and int(text) < int(total[1]) * 1024:
            return int(text)
    return None


def own_cgroup(controller: str) -> Path:
    """Folder of this process' control group."""
    for line in _text(PROC / 'self/cgroup').splitlines():
        _, controllers, path = line.split(':', 2)
        if not controllers or controller in controllers.split(','):
            return CGROUPS / controllers / path.lstrip('/')
    return CGROUPS


def quota(file: Path) -> float | None:
    """Cores that a control group's `cpu.max` allows; None where it does not limit them."""
    words = _text(file).split()
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0].isdecimal() else None


def limits() -> dict[str, Any]:
    """Files that may be open at once: now, and at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {'open_files': soft, 'open_files_at_most': hard}


def disk(folder: Path) -> dict[str, Any]:
    """Bytes that are free where results would be written."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    usage = shutil.disk_usage(place)
    return {'folder': str(folder), 'free': usage.free, 'writable': os.access(place, os.W_OK)}


def driver() -> dict[str, Any]:
    """Driver of NVIDIA GPUs, and what it knows of each, whether or not torch sees them."""
    query = '--query-gpu=name,memory.total,driver_version,compute_cap'
    text = output_of('nvidia-smi', query, '--format=csv,noheader')
    loaded = re.search(r'Kernel Module.*?(\d+\.\d[\d.]*)', _text(PROC / 'driver/nvidia/version'))
    return {'loaded': loaded and loaded[1], 'gpus': text.splitlines() if text else []}


def slurm() -> dict[str, Any]:
    """Whether jobs can be submitted, and which job this is."""
    return {'sbatch': shutil.which('sbatch'), 'job': os.environ.get('SLURM_JOB_ID')}


def output_of(*command: str) -> str | None:
    """What a command prints; None where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _text(file: Path) -> str:
    try:
        return file.read_text(errors='replace')
    except OSError:
        return ''
