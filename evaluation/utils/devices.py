"""Devices, free memory, and out-of-memory errors."""

import gc
import os
import platform
import re
import resource
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch

from evaluation.utils.errors import UserError

CPU_FACTS = Path('/proc/cpuinfo')


def find_device(name: str | None) -> torch.device:
    """Return the device named `cpu`, `cuda` or `cuda:N`; for None the first GPU, or the CPU without one.

    Raises:
        UserError: the device does not exist or its kind is unknown.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name is None:
        name = 'cuda' if gpus else 'cpu'
    match = re.fullmatch(r'cpu|cuda(?::(\d+))?', name)
    if not match:
        raise UserError(f'unknown device {name!r}; give cpu, cuda or cuda:N')
    if name == 'cpu':
        return torch.device('cpu')
    if not gpus:
        raise UserError(f'device {name}: PyTorch finds no GPU; give --device cpu')
    index = int(match[1] or 0)
    if index >= gpus:
        raise UserError(f'device {name} does not exist; give one of cuda:0 to cuda:{gpus - 1}')
    return torch.device('cuda', index)


def own_device(name: str | None) -> torch.device:
    """Return the named device; for None, a separate GPU for each process on this machine.

    Raises:
        UserError: the device does not exist or its kind is unknown.
    """
    local_rank = int(os.environ.get('LOCAL_RANK', os.environ.get('SLURM_LOCALID', 0)))
    if name is None and torch.cuda.is_available():
        name = f'cuda:{local_rank % torch.cuda.device_count()}'
    return find_device(name)


def check_dtype(device: torch.device, dtype: str) -> None:
    """Check that a device has native matrix products in a dtype.

    Args:
        device: a CPU or GPU.
        dtype: `fp32`, `bf16` or `fp16`.

    Raises:
        UserError: it has none, so a pass would take minutes and say nothing about a mixer.
    """
    if device.type != 'cpu':
        return
    if dtype == 'fp16':
        raise UserError('--dtype fp16 needs a GPU: few CPUs have instructions for it; give --dtype fp32')
    if dtype == 'bf16' and not has_bfloat16_products():
        raise UserError(
            f'--dtype bf16: {cpu_name()} has no bf16 instructions, so it would be hundreds of times '
            'slower than fp32; give --dtype fp32, or use a GPU or a CPU with AVX-512'
        )


def has_bfloat16_products() -> bool:
    """Return whether oneDNN, which PyTorch uses for products, supports bfloat16 on this CPU."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all its work."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def current(device: torch.device) -> AbstractContextManager:
    """Make this GPU the current one; do nothing on the CPU."""
    return torch.cuda.device(device) if device.type == 'cuda' else nullcontext()


def describe_device(device: torch.device) -> dict:
    """Return what timings depend on: processor, threads, and on GPUs whether TF32 replaces fp32."""
    if device.type == 'cpu':
        return {'device': 'cpu', 'name': cpu_name(), 'threads': torch.get_num_threads()}
    return {
        'device': str(device),
        'name': torch.cuda.get_device_name(device),
        'cuda': torch.version.cuda,
        'tf32': {
            'matrix_products': torch.backends.cuda.matmul.allow_tf32,
            'convolutions': torch.backends.cudnn.allow_tf32,
        },
    }


def cpu_name() -> str:
    """Return the model of the processor, as the system reports it."""
    if CPU_FACTS.is_file():
        found = re.search(r'^model name\s*:\s*(.+)$', CPU_FACTS.read_text(), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


_REFUSALS = (
    'DefaultCPUAllocator',
    'std::bad_alloc',
    'Storage size calculation overflowed',
    'numel: integer multiplication overflow',
)
_CGROUPS = Path('/sys/fs/cgroup')


class OutOfMemoryError(Exception):
    """An allocation was refused."""


@contextmanager
def out_of_memory_raised(device: torch.device) -> Iterator[None]:
    """Convert CPU and GPU allocation errors to one exception, and free the memory of the failed pass.

    Raises:
        OutOfMemoryError: an allocation was refused.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # The traceback's frames hold the tensors of the failed pass.
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        if device.type == 'cuda':
            torch.cuda.empty_cache()
        raise OutOfMemoryError from None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that an allocation was refused or its size overflowed."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _REFUSALS)


@contextmanager
def refused_beyond_free_memory(device: torch.device) -> Iterator[None]:
    """Make CPU allocations that exceed the free memory fail.

    Linux grants them, and then kills the process that uses them. Nothing changes on other systems or for
    a GPU.
    """
    # Garbage that is collected later would add to the free memory measured now.
    gc.collect()
    free = free_memory()
    if device.type != 'cpu' or free is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _kilobytes(Path('/proc/self/status'), 'VmData') + free
    bounds = [bound for bound in before if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([limit, *bounds]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def free_memory() -> int | None:
    """Return the bytes that machine and control group still allow this process; None if unknown."""
    facts = Path('/proc/meminfo')
    if not facts.is_file():
        return None
    free = [_kilobytes(facts, 'MemAvailable')]
    for folder, limit, used in (
        (_CGROUPS, 'memory.max', 'memory.current'),
        (_CGROUPS / 'memory', 'memory.limit_in_bytes', 'memory.usage_in_bytes'),
    ):
        files = folder / limit, folder / used
        if all(file.is_file() for file in files):
            texts = [file.read_text().strip() for file in files]
            if texts[0] != 'max':
                free.append(max(int(texts[0]) - int(texts[1]), 0))
    return min(free)


def _kilobytes(file: Path, name: str) -> int:
    """Return the bytes of a line such as `VmData: 12 kB`."""
    lines = (line.split() for line in file.read_text().splitlines())
    return next(int(words[1]) for words in lines if words[0] == f'{name}:') * 1024
