"""Compile what an operator would launch on a GPU, without a GPU.

The operator runs with tensors on the meta device, and its launches are recorded instead of run. So
kernels are compiled with the types, constants and options of real calls.
"""

import inspect
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from evaluation.gpu_check.checks import SkippedCheckError

# Triton specializes arguments that are divisible by this: addresses, and sizes unless told not to.
ALIGNMENT = 16
THREADS_PER_WARP = 32
INT32 = range(-(2**31), 2**31)
TYPES = {
    torch.float32: 'fp32',
    torch.float64: 'fp64',
    torch.float16: 'fp16',
    torch.bfloat16: 'bf16',
    torch.int8: 'i8',
    torch.uint8: 'u8',
    torch.int16: 'i16',
    torch.int32: 'i32',
    torch.int64: 'i64',
    torch.bool: 'i1',
}
CACHE = 'TRITON_CACHE_DIR'


class Launch(NamedTuple):
    """A recorded launch of a kernel.

    Attributes:
        kernel: the jitted function.
        arguments: name and value of every argument.
        options: options of the compiler, such as `num_warps`.
    """

    kernel: Any
    arguments: dict[str, Any]
    options: dict[str, Any]


class Specialization(NamedTuple):
    """What Triton knows about the arguments of a launch when it compiles the kernel.

    Attributes:
        types: Triton's type of every argument; `constexpr` if the compiler knows its value.
        constants: values of the arguments that the compiler knows.
        attributes: Triton's attributes of the arguments that are divisible by `ALIGNMENT`.
    """

    types: dict[str, str]
    constants: dict[str, Any]
    attributes: dict[tuple[int], list]


class Resources(NamedTuple):
    """Resources that a compiled kernel needs.

    Attributes:
        registers: registers per thread.
        spilled: bytes per thread in local memory, for numbers that do not fit in the registers.
        shared: bytes of shared memory per program.
    """

    registers: int
    spilled: int = 0
    shared: int = 0


def check_compiler() -> None:
    """Check that Triton can compile in this process as this module expects.

    Raises:
        SkippedCheckError: it is missing, interprets, or is a version with different internals.
    """
    try:
        import triton
    except ImportError as error:
        raise SkippedCheckError('Triton is not installed') from error
    if os.environ.get('TRITON_INTERPRET', '0') != '0':
        raise SkippedCheckError('Triton interprets in this process; unset TRITON_INTERPRET')
    different = f'Triton {triton.__version__} compiles without a GPU in a different way'
    try:
        from triton import JITFunction
        from triton.backends import nvidia
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource
    except ImportError as error:
        raise SkippedCheckError(different) from error
    expected = (
        (JITFunction.run, {'grid', 'warmup'}),
        (ASTSource, {'fn', 'signature', 'constexprs', 'attrs'}),
        (GPUTarget, {'backend', 'arch', 'warp_size'}),
        (triton.compile, {'src', 'target', 'options'}),
    )
    if any(names - inspect.signature(function).parameters.keys() for function, names in expected):
        raise SkippedCheckError(different)
    if _dump_tool(nvidia) is None:
        raise SkippedCheckError('cuobjdump is missing: it is not beside Triton and not in PATH')


@contextmanager
def temporary_cache() -> Iterator[None]:
    """Let Triton keep compiled kernels in a temporary folder, so that every kernel is compiled."""
    before = os.environ.get(CACHE)
    with tempfile.TemporaryDirectory(prefix='triton_') as folder:
        os.environ[CACHE] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ[CACHE]
            else:
                os.environ[CACHE] = before


def recorded(call: Callable[[], object]) -> list[Launch]:
    """Call an operator and return its launches, in order; nothing is computed.

    Launches that Triton compiles to the same code are returned once.
    """
    launches = []

    def record(kernel, *arguments, grid, warmup, **keywords):
        names = inspect.signature(kernel.fn).parameters
        options = {name: keywords.pop(name) for name in [*keywords] if name not in names}
        bound = inspect.signature(kernel.fn).bind(*arguments, **keywords)
        bound.apply_defaults()
        launches.append(Launch(kernel, dict(bound.arguments), options))

    with _launching_by(record):
        call()
    distinct = {
        str((id(launch.kernel), specialize(launch), sorted(launch.options.items()))): launch
        for launch in launches
    }
    return list(distinct.values())


@contextmanager
def _launching_by(run: Callable) -> Iterator[None]:
    """Replace the method by which Triton launches kernels."""
    from triton import JITFunction

    original = JITFunction.run
    JITFunction.run = run
    try:
        yield
    finally:
        JITFunction.run = original


def compiled(launch: Launch, capability: int) -> Any:
    """Compile a launch for a GPU, as Triton would; tensors are taken to be aligned.

    Args:
        launch: from `recorded`.
        capability: compute capability of the GPU, such as 90 for sm_90.

    Returns:
        Triton's compiled kernel; `asm` has the code as `ttir`, `ptx` and `cubin`.
    """
    from triton import compile as compile_kernel
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types, constants, attributes = specialize(launch)
    source = ASTSource(launch.kernel, types, constexprs=constants, attrs=attributes)
    target = GPUTarget('cuda', capability, THREADS_PER_WARP)
    return compile_kernel(source, target=target, options=launch.options)


def specialize(launch: Launch) -> Specialization:
    """Return what Triton would know about the arguments of a launch when it compiles the kernel."""
    found = Specialization({}, {}, {})
    for index, parameter in enumerate(launch.kernel.params):
        value = launch.arguments[parameter.name]
        found.types[parameter.name] = kind = _type(value, parameter)
        if kind == 'constexpr':
            found.constants[parameter.name] = value
        elif kind.startswith('*') or (_is_specialized(value, parameter) and value % ALIGNMENT == 0):
            found.attributes[(index,)] = [['tt.divisibility', ALIGNMENT]]
    return found


def _type(value: Any, parameter: Any) -> str:
    """Return Triton's type of an argument; `constexpr` if it is known to the compiler."""
    if parameter.is_constexpr or value is None:
        return 'constexpr'
    if isinstance(value, torch.Tensor):
        return f'*{TYPES[value.dtype]}'
    if isinstance(value, float):
        return 'fp32'
    if isinstance(value, bool):
        return 'i1'
    if value == 1 and _is_specialized(value, parameter):
        return 'constexpr'
    return 'i32' if value in INT32 else 'i64'


def _is_specialized(value: Any, parameter: Any) -> bool:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return is_number and not parameter.do_not_specialize


def resources(kernel: Any) -> Resources:
    """Return the resources of a kernel from `compiled`, read from its machine code."""
    from triton.backends import nvidia

    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(kernel.asm['cubin'])
        file.flush()
        command = [_dump_tool(nvidia), '--dump-resource-usage', file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (used,) = re.findall(r'REG:(\d+) STACK:(\d+) .*LOCAL:(\d+)', usage)
    registers, stack, local = map(int, used)
    return Resources(registers, stack + local, kernel.metadata.shared)


def _dump_tool(nvidia: Any) -> str | None:
    """Return the path of cuobjdump, which comes with most versions of Triton and with CUDA."""
    own = Path(nvidia.__file__).parent / 'bin/cuobjdump'
    return str(own) if own.exists() else shutil.which('cuobjdump')
