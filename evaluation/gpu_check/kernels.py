"""Stage `kernels`: every Triton kernel, compiled ahead of time; its registers, spills and shared memory.

Nothing runs on the device, so the stage also says on a machine without a GPU what kernels need there.
"""

import multiprocessing
import os
import traceback
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import torch

from evaluation.gpu_check.ahead_of_time import (
    Resources,
    check_compiler,
    compiled,
    recorded,
    resources,
    temporary_cache,
)
from evaluation.gpu_check.checks import LONGEST_REASON, Check, FailedCheckError, Settings
from evaluation.gpu_check.kernel_calls import BOUNDED_VERSION, CAPABILITIES, CASES, Case

# Compiled for in a quick check without a GPU.
QUICK_CAPABILITY = 90
# Triton holds Python's lock while it compiles, so threads would not help.
MOST_PROCESSES = 8
# Problems in the reason of a failed check; the log has the others.
MOST_PROBLEMS = 3


def checks(settings: Settings) -> list[Check]:
    """Return the checks of the stage: one for each architecture."""
    return [
        Check(architecture(capability), partial(compile_all, capability))
        for capability in capabilities_of(settings)
    ]


def architecture(capability: int) -> str:
    """Return the name of an architecture."""
    return f'sm_{capability}'


def capabilities_of(settings: Settings) -> tuple[int, ...]:
    """Return the capabilities to compile for, such as 90 for sm_90; the GPU's own is the first.

    A quick check compiles for one.
    """
    if settings.is_gpu:
        major, minor = torch.cuda.get_device_capability(settings.device)
        own = 10 * major + minor
    else:
        own = QUICK_CAPABILITY
    if settings.quick:
        return (own,)
    return (own, *(capability for capability in CAPABILITIES if capability != own))


def compile_all(capability: int) -> dict[str, dict[str, dict[str, int]]]:
    """Compile the kernels of all cases for a capability, and compare what they need with their bounds.

    Other versions of Triton may need a few more registers, so with these there are no bounds.

    Returns:
        Figures of `Resources` by case and by name of the kernel.

    Raises:
        FailedCheckError: a kernel does not compile or needs more than its bound. The error has the
            figures of those that compile.
        SkippedCheckError: Triton cannot compile without a GPU.
    """
    check_compiler()
    processes = min(os.cpu_count() or 1, MOST_PROCESSES)
    with ProcessPoolExecutor(processes, multiprocessing.get_context('spawn')) as pool:
        found = list(pool.map(partial(_tried, capability), CASES))
    import triton

    has_bounds = triton.__version__.startswith(f'{BOUNDED_VERSION}.')
    figures, problems = {}, []
    for case, (used, problem) in zip(CASES, found, strict=True):
        figures[str(case)] = {name: each._asdict() for name, each in used.items()}
        bounds = case.bounds_for(capability) if has_bounds else {}
        excesses = [problem] if problem else excesses_of(used, bounds)
        problems += [f'{case}: {excess}' for excess in excesses]
    if problems:
        for problem in problems:
            print(problem, flush=True)
        more = len(problems) - MOST_PROBLEMS
        shown = [*problems[:MOST_PROBLEMS], *([f'{more} more, see the log'] if more > 0 else [])]
        raise FailedCheckError('; '.join(shown), figures)
    return figures


def _tried(capability: int, case: Case) -> tuple[dict[str, Resources], str]:
    """Return the resources of the kernels of a case, and why they do not compile; '' if they do."""
    try:
        return measure(case, capability), ''
    except Exception as error:
        # The log has it all.
        traceback.print_exc()
        first = (str(error).strip() or 'no message').splitlines()[0]
        return {}, f'{type(error).__name__}: {first}'[:LONGEST_REASON]


def measure(case: Case, capability: int) -> dict[str, Resources]:
    """Compile the kernels of a case.

    Returns:
        Resources by name of the kernel. If the case compiles a kernel several times, with different
        constants, each figure is the largest.
    """
    used: dict[str, Resources] = {}
    with temporary_cache():
        for launch in recorded(lambda: case.call(case.dtype)):
            name, found = launch.kernel.__name__, resources(compiled(launch, capability))
            used[name] = Resources(*map(max, used.get(name, found), found))
    return used


def excesses_of(used: Mapping[str, Resources], bounds: Mapping[str, Resources]) -> list[str]:
    """Return in words what is above its bound; kernels without a bound may need any amount."""
    return [
        f'{what} of {name}: {number}, bound {most}'
        for name, found in used.items()
        if name in bounds
        for what, number, most in zip(Resources._fields, found, bounds[name], strict=True)
        if number > most
    ]
