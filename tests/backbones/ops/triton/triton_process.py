"""Run Triton operators without a GPU: in a separate process, with Triton's interpreter.

Triton decides on import, for the whole process, whether it compiles or interprets. The test process may
have imported it already, or may need to compile.
"""

import importlib
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from unittest import mock

import pytest
import torch
from torch import Tensor

from backbones.ops.triton import launch_sizes


@contextmanager
def interpreter() -> Iterator[ProcessPoolExecutor]:
    """Yield the process, as an executor that takes functions and tensors."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv('TRITON_INTERPRET', '1')
        environment.setenv('OMP_NUM_THREADS', '1')
        with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as process:
            # The first call starts the process.
            process.submit(torch.ones, 1).result()
            environment.undo()
            yield process


def call(
    function: str,
    tensors: tuple[Tensor, ...],
    numbers: tuple[int | float, ...],
    deterministic: bool = False,
    wide_index: bool = False,
) -> Tensor | tuple[Tensor, ...]:
    """Call a function of `backbones.ops.triton`, such as `dcnv3.forward`, with these settings."""
    module, name = function.split('.')
    operator = importlib.import_module(f'backbones.ops.triton.{module}')
    before = torch.are_deterministic_algorithms_enabled()
    limit = -1 if wide_index else launch_sizes.INT32_MAX
    torch.use_deterministic_algorithms(deterministic)
    try:
        with mock.patch.object(launch_sizes, 'INT32_MAX', limit):
            return getattr(operator, name)(*tensors, *numbers)
    finally:
        torch.use_deterministic_algorithms(before)
