"""Compile what an operator would launch on a GPU, without a GPU.

The operator runs with tensors on the meta device or the CPU, and its launches are recorded instead of
run. So kernels are compiled with the types, constants and options of real calls.
"""

import inspect
import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
import torch

# Triton specializes arguments that are divisible by this: addresses, and sizes unless told not to.
ALIGNMENT = 16
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


def skip_unless_compiling() -> None:
    """Skip the test if Triton cannot compile in this process."""
    triton = pytest.importorskip('triton')
    if os.environ.get('TRITON_INTERPRET', '0') != '0':
        pytest.skip('Triton interprets in this process')
    from triton.compiler import ASTSource

    if 'constexprs' not in inspect.signature(ASTSource).parameters:
        pytest.skip(f'Triton {triton.__version__} takes other arguments for compiling without a GPU')


def recorded(call: Callable[[], object]) -> list[Launch]:
    """Call an operator and return its launches, in order; nothing is computed."""
    import triton

    launches = []

    def record(kernel, *arguments, grid, warmup, **keywords):
        names = inspect.signature(kernel.fn).parameters
        options = {name: keywords.pop(name) for name in [*keywords] if name not in names}
        bound = inspect.signature(kernel.fn).bind(*arguments, **keywords)
        bound.apply_defaults()
        launches.append(Launch(kernel, dict(bound.arguments), options))

    with mock.patch.object(triton.JITFunction, 'run', record):
        call()
    return launches


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

    constants, types, attributes = {}, {}, {}
    for index, parameter in enumerate(launch.kernel.params):
        value = launch.arguments[parameter.name]
        types[parameter.name] = kind = _type(value, parameter)
        if kind == 'constexpr':
            constants[parameter.name] = value
        elif kind.startswith('*') or (_is_specialized(value, parameter) and value % ALIGNMENT == 0):
            attributes[(index,)] = [['tt.divisibility', ALIGNMENT]]
    source = ASTSource(launch.kernel, types, constexprs=constants, attrs=attributes)
    return compile_kernel(source, target=GPUTarget('cuda', capability, 32), options=launch.options)


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

    tool = Path(nvidia.__file__).parent / 'bin/cuobjdump'
    if not tool.exists():
        pytest.skip('this Triton comes without cuobjdump')
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(kernel.asm['cubin'])
        file.flush()
        command = [tool, '--dump-resource-usage', file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (used,) = re.findall(r'REG:(\d+) STACK:(\d+) .*LOCAL:(\d+)', usage)
    registers, stack, local = map(int, used)
    return Resources(registers, stack + local, kernel.metadata.shared)
