"""Stage `kernels`: architectures, kernels above their bounds, and Triton that cannot compile."""

import os
import sys

import pytest
import torch

from evaluation.gpu_check import kernels
from evaluation.gpu_check.ahead_of_time import Resources, recorded, temporary_cache
from evaluation.gpu_check.checks import FailedCheckError, Settings, SkippedCheckError
from evaluation.gpu_check.kernel_calls import BF16, CAPABILITIES, CASES, FP32, Case, dcnv4_forward
from tests.evaluation.gpu_check.toy_stages import divide_by_zero
from tests.triton_compiler import skip_unless_compiling

NEEDED = {'registers': 40, 'spilled': 0, 'shared': 0}
GOOD = Case(dcnv4_forward, FP32, {'forward': Resources(40)})
LOW = Case(dcnv4_forward, FP32, {'forward': Resources(39)})
BROKEN = Case(divide_by_zero, BF16, {})


@pytest.fixture
def compiler():
    skip_unless_compiling()


@pytest.mark.usefixtures('compiler')
def test_a_kernel_above_its_bound_fails_and_keeps_its_figures(monkeypatch):
    monkeypatch.setattr(kernels, 'CASES', [GOOD])
    assert kernels.compile_all(90) == {'dcnv4_forward, fp32': {'forward': NEEDED}}
    monkeypatch.setattr(kernels, 'CASES', [LOW, BROKEN])
    with pytest.raises(FailedCheckError) as caught:
        kernels.compile_all(90)
    assert str(caught.value) == (
        'dcnv4_forward, fp32: registers of forward: 40, bound 39; '
        'divide_by_zero, bf16: ZeroDivisionError: no message'
    )
    assert caught.value.figures == {
        'dcnv4_forward, fp32': {'forward': NEEDED},
        'divide_by_zero, bf16': {},
    }


@pytest.mark.usefixtures('compiler')
def test_other_versions_of_triton_have_no_bounds(monkeypatch):
    import triton

    monkeypatch.setattr(kernels, 'CASES', [LOW])
    monkeypatch.setattr(triton, '__version__', '3.60.0')
    assert kernels.compile_all(90) == {'dcnv4_forward, fp32': {'forward': NEEDED}}


def test_only_the_first_problems_are_named(monkeypatch):
    monkeypatch.setattr(kernels, 'check_compiler', lambda: None)
    monkeypatch.setattr(kernels, 'CASES', [BROKEN] * 5)
    with pytest.raises(FailedCheckError) as caught:
        kernels.compile_all(90)
    *shown, last = str(caught.value).split('; ')
    assert len(shown) == kernels.MOST_PROBLEMS
    assert last == '2 more, see the log'


def test_bounds_hold_for_stated_architectures():
    used = {'forward': Resources(41, 8, 0)}
    assert kernels.excesses_of(used, LOW.bounds_for(90)) == [
        'registers of forward: 41, bound 39',
        'spilled of forward: 8, bound 0',
    ]
    assert kernels.excesses_of(used, LOW.bounds_for(75)) == []
    case = Case(dcnv4_forward, FP32, LOW.bounds, {100: {'forward': Resources(41, 8)}})
    assert kernels.excesses_of(used, case.bounds_for(100)) == []
    assert len(kernels.excesses_of(used, case.bounds_for(80))) == 2


def test_names_of_cases_are_distinct():
    assert len({str(case) for case in CASES}) == len(CASES)


def names(settings):
    return [check.name for check in kernels.checks(settings)]


def test_the_architecture_of_the_gpu_is_the_first(tmp_path, monkeypatch):
    whole, quick = (Settings('cpu', is_quick, tmp_path) for is_quick in (False, True))
    assert sorted(kernels.capabilities_of(whole)) == sorted(CAPABILITIES)
    assert names(quick) == ['sm_90']
    whole, quick = (Settings('cuda:0', is_quick, tmp_path) for is_quick in (False, True))
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (12, 0))
    assert names(whole) == ['sm_120', 'sm_80', 'sm_90', 'sm_100']
    assert names(quick) == ['sm_120']
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (10, 0))
    assert names(whole) == ['sm_100', 'sm_80', 'sm_90']


def test_triton_that_cannot_compile_is_skipped(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'triton', None)
        with pytest.raises(SkippedCheckError, match='not installed'):
            kernels.compile_all(90)
    with monkeypatch.context() as patch:
        pytest.importorskip('triton')
        patch.setenv('TRITON_INTERPRET', '1')
        with pytest.raises(SkippedCheckError, match='TRITON_INTERPRET'):
            kernels.compile_all(90)


@pytest.mark.usefixtures('compiler')
def test_different_internals_of_triton_are_skipped(monkeypatch):
    import triton
    from triton.backends import nvidia

    with monkeypatch.context() as patch:
        patch.setattr(triton.JITFunction, 'run', lambda self, *arguments: None)
        with pytest.raises(SkippedCheckError, match='in a different way'):
            kernels.compile_all(90)
    with monkeypatch.context() as patch:
        patch.setattr(nvidia, '__file__', '/missing/__init__.py')
        patch.setenv('PATH', '')
        with pytest.raises(SkippedCheckError, match='cuobjdump'):
            kernels.compile_all(90)


@pytest.mark.usefixtures('compiler')
def test_launches_are_recorded_once_and_triton_is_restored():
    import triton

    run = triton.JITFunction.run
    assert len(recorded(lambda: [dcnv4_forward(dtype) for dtype in (FP32, FP32, BF16)])) == 2
    with pytest.raises(ZeroDivisionError):
        recorded(lambda: divide_by_zero(FP32))
    assert triton.JITFunction.run is run


def test_the_cache_is_temporary(monkeypatch):
    for before in (None, 'mine'):
        if before:
            monkeypatch.setenv('TRITON_CACHE_DIR', before)
        else:
            monkeypatch.delenv('TRITON_CACHE_DIR', raising=False)
        with temporary_cache():
            folder = os.environ['TRITON_CACHE_DIR']
            assert os.path.isdir(folder)
        assert os.environ.get('TRITON_CACHE_DIR') == before
        assert not os.path.exists(folder)
