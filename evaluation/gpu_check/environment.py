"""Stage `environment`: the device, versions, rates of matrix products, bandwidth of copies."""

import importlib.metadata
import statistics
from collections.abc import Mapping
from functools import partial

import torch

from evaluation.benchmark.passes import DTYPES, MatrixProduct, Mode, seconds_of
from evaluation.benchmark.speed_report import OPERATIONS_PER_FLOP
from evaluation.gpu_check.checks import Check, Settings, check_instructions
from evaluation.results.description import versions
from evaluation.utils.devices import current, describe_device

REPEATS = 10
QUICK_SIDE = 1024
# Bytes of the array that a copy reads, larger than any cache.
COPIED_BYTES = {'cuda': 2**30, 'cpu': 2**28}


def checks(settings: Settings) -> list[Check]:
    """Return the checks of the stage."""
    device = torch.device(settings.device)
    found = [Check('device and versions', partial(describe, device))]
    side = QUICK_SIDE if settings.quick else None
    found += [
        Check(f'matrix products in {dtype}', partial(rate, device, dtype, side)) for dtype in DTYPES
    ]
    found.append(Check('copies', partial(bandwidth, device)))
    return found


def describe(device: torch.device) -> dict:
    """Return the device, its memory, the driver and versions of libraries."""
    found = {**describe_device(device), 'versions': {**versions(), 'triton': triton_version()}}
    if device.type == 'cuda':
        facts = torch.cuda.get_device_properties(device)
        found |= {
            'memory_bytes': facts.total_memory,
            'multiprocessors': facts.multi_processor_count,
            'compute_capability': f'{facts.major}.{facts.minor}',
            'cudnn': torch.backends.cudnn.version(),
        }
    return found


def triton_version() -> str | None:
    """Return the version of Triton, which decides what kernels need; None if it is not installed."""
    try:
        return importlib.metadata.version('triton')
    except importlib.metadata.PackageNotFoundError:
        return None


def rate(device: torch.device, dtype: str, side: int | None) -> Mapping[str, object]:
    """Return the rate of matrix products in 10^12 operations per second.

    Args:
        device: device under test.
        dtype: key of `DTYPES`.
        side: side of the matrices; None for the default of benchmarks.

    Raises:
        SkippedCheckError: a CPU has no instructions for the dtype.
    """
    check_instructions(device, dtype)
    with current(device):
        product = MatrixProduct(side, Mode(device, dtype))
        product.time()
        seconds = [product.time() for _ in range(REPEATS)]
    operations = OPERATIONS_PER_FLOP * product.flops
    return {'side': product.side, 'teraflops': operations / statistics.median(seconds) / 1e12}


def bandwidth(device: torch.device) -> Mapping[str, object]:
    """Return the bandwidth of copies in 10^9 bytes per second, reading and writing counted."""
    source = torch.zeros(COPIED_BYTES[device.type] // 4, device=device)
    target = torch.empty_like(source)
    with current(device):
        seconds = [seconds_of(lambda: target.copy_(source), device) for _ in range(REPEATS + 1)][1:]
    moved = 2 * source.numel() * source.element_size()
    return {'bytes': moved, 'gigabytes_per_second': moved / statistics.median(seconds) / 1e9}
