"""Devices that compute, how much memory there is, and what it looks like when it runs out."""

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
    """The device of a name: `cpu`, `cuda` or `cuda:N`; None for the first GPU, or the CPU without one.

    Raises:
        UserError: it is not there, or of another kind.
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
        raise UserError(f'device {name}: PyTorch finds no GPU here; give --device cpu')
    index = int(match[1] or 0)
    if index >= gpus:
        raise UserError(f'device {name}: the GPUs here are cuda:0 to cuda:{gpus - 1}')
    return torch.device('cuda', index)


def own_device(name: str | None) -> torch.device:
    """The device of a name; where several processes share a machine's GPUs, None is one for each.

    Raises:
        UserError: it is not there, or of another kind.
    """
    local_rank = int(os.environ.get('LOCAL_RANK', os.environ.get('SLURM_LOCALID', 0)))
    if name is None and torch.cuda.is_available():
        name = f'cuda:{local_rank % torch.cuda.device_count()}'
    return find_device(name)


def check_dtype(device: torch.device, dtype: str) -> None:
    """Look whether a device multiplies matrices in a dtype by instructions of its own.

    Args:
        device: a CPU or GPU.
        dtype: `fp32`, `bf16` or `fp16`.

    Raises:
        UserError: it does not, so that a pass would take minutes and tell nothing of a mixer.
    """
    if device.type != 'cpu':
        return
    if dtype == 'fp16':
        raise UserError('--dtype fp16 is for GPUs: few CPUs have instructions for it; give --dtype fp32')
    if dtype == 'bf16' and not has_bfloat16_products():
        raise UserError(
            f'--dtype bf16: {cpu_name()} has no instructions for its products, which take hundreds of '
            'times as long as those of fp32; give --dtype fp32, or use a GPU or a CPU with AVX-512'
        )


def has_bfloat16_products() -> bool:
    """Whether oneDNN, which PyTorch makes them by, has code for bfloat16 on this CPU."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def synchronize(device: torch.device) -> None:
    """Wait until all that was given to the device is done."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def current(device: torch.device) -> AbstractContextManager:
    """Let code that asks for the current GPU get this one."""
    return torch.cuda.device(device) if device.type == 'cuda' else nullcontext()


def describe_device(device: torch.device) -> dict:
    """What times depend on: the processor, its threads, and on GPUs whether TF32 stands in for fp32."""
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
    """Model of the processor as the system calls it."""
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
    """Let whatever the allocators of CPU and GPU raise be one exception, and give back what was taken.

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
    """Whether an exception says that an allocation was refused, or is larger than a number can be."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _REFUSALS)


@contextmanager
def refused_beyond_free_memory(device: torch.device) -> Iterator[None]:
    """Let allocations on the CPU fail that the machine has no memory for.

    Linux grants them, and then kills the process that uses them. Other systems, and a pass on a GPU, are
    left as they are.
    """
    # What is given back later would be free beside what was found free now.
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
    """Bytes that this process may still take, by the machine and its control group; None if unknown."""
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
    """Bytes that a line such as `VmData: 12 kB` states."""
    lines = (line.split() for line in file.read_text().splitlines())
    return next(int(words[1]) for words in lines if words[0] == f'{name}:') * 1024
