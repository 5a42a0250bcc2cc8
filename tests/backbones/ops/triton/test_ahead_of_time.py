"""All Triton kernels compile for the GPUs of data centers, within the bounds of `kernel_calls`."""

from pathlib import Path

import pytest

from backbones.ops.triton import dcnv3
from evaluation.gpu_check.ahead_of_time import (
    compiled,
    recorded,
    resources,
    temporary_cache,
)
from evaluation.gpu_check.kernel_calls import CAPABILITIES, CASES, FP32, dcnv3_backward
from evaluation.gpu_check.kernels import excesses_of, measure
from tests.triton_compiler import skip_unless_compiling

# Parts of several operators, which are compiled with them.
SHARED = {'sampling'}


@pytest.fixture
def compiler():
    skip_unless_compiling()


@pytest.mark.usefixtures('compiler')
@pytest.mark.parametrize('capability', CAPABILITIES)
@pytest.mark.parametrize('case', CASES, ids=str)
def test_resources(case, capability):
    used = measure(case, capability)
    bounds = case.bounds_for(capability)
    assert used.keys() == bounds.keys()
    assert excesses_of(used, bounds) == []


@pytest.mark.usefixtures('compiler')
def test_spilled_registers_are_found():
    (launch,) = recorded(lambda: dcnv3_backward(FP32))
    launch.options['maxnreg'] = 32
    with temporary_cache():
        used = resources(compiled(launch, 80))
    assert used.registers <= 32
    assert used.spilled > 0


def test_every_operator_has_a_case():
    folder = Path(dcnv3.__file__).parent
    files = {file.stem for file in folder.glob('*.py')}
    operators = {name for name in files if f'{name}_kernels' in files} - SHARED
    covered = {name for case in CASES for name in operators if case.call.__name__.startswith(name)}
    assert covered == operators
