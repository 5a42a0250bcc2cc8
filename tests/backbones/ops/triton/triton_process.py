"""Run Triton operators without a GPU: in a separate process, with Triton's interpreter.

Triton decides on import, for the whole process, whether it compiles or interprets. The test process may
have imported it already, or may need to compile.
"""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from unittest import mock

import pytest
import torch
from torch import Tensor

from backbones.ops.triton import dcnv3 as dcnv3_triton


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
    name: str, tensors: tuple[Tensor, ...], kernel_size: int, deterministic: bool, wide_index: bool
) -> Tensor | tuple[Tensor, ...]:
    """Call `forward` or `backward` of `backbones.ops.triton.dcnv3` with these settings."""
    before = torch.are_deterministic_algorithms_enabled()
    limit = -1 if wide_index else dcnv3_triton.INT32_MAX
    torch.use_deterministic_algorithms(deterministic)
    try:
        with mock.patch.object(dcnv3_triton, 'INT32_MAX', limit):
            return getattr(dcnv3_triton, name)(*tensors, kernel_size)
    finally:
        torch.use_deterministic_algorithms(before)
