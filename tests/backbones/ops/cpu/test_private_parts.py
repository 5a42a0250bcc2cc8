"""Private parts of PyTorch that are missing or changed: one warning, same results."""

import contextlib
import importlib
import warnings

import pytest
import torch
import torch.nn.functional as F

from backbones.ops import tracing
from backbones.ops.cpu import onednn, threads
from backbones.ops.linear import linear, linear_gelu


@contextlib.contextmanager
def warned_once(text):
    """Expect exactly one warning in a block."""
    with pytest.warns(UserWarning, match=text) as caught:
        yield
    assert len([each for each in caught if text in str(each.message)]) == 1


@pytest.fixture
def fresh():
    """Clear the cached probes before and after a test."""

    def forget():
        onednn._agrees_with_pytorch.cache_clear()
        threads.openmp.cache_clear()

    forget()
    yield
    forget()


def gone(*_, **__):
    raise AttributeError('no such operator')


def changed(x, weight, bias, *_):
    return F.linear(x, weight, bias) + 1


@pytest.mark.usefixtures('fresh')
@pytest.mark.skipif(not onednn.IS_BUILT, reason='needs oneDNN')
@pytest.mark.parametrize('operator', [gone, changed])
def test_onednn(monkeypatch, operator):
    monkeypatch.setattr(onednn, 'NARROWEST_BY_ONEDNN', 1)
    monkeypatch.setattr(onednn, 'linear', lambda x, weight, bias, gelu=False: operator(x, weight, bias))
    x, weight, bias = torch.randn(6, 5), torch.randn(7, 5), torch.randn(7)
    with warned_once('oneDNN operator cannot be used'), torch.no_grad():
        for _ in range(2):
            assert torch.equal(linear(x, weight, bias), F.linear(x, weight, bias))
            assert torch.equal(linear_gelu(x, weight, bias), F.gelu(F.linear(x, weight, bias)))


@pytest.mark.usefixtures('fresh')
@pytest.mark.skipif(not onednn.HAS_OPERATOR, reason='needs oneDNN')
def test_onednn_works_if_first_used_within_autocast():
    with warnings.catch_warnings(), torch.autocast('cpu', torch.bfloat16):
        warnings.simplefilter('error')
        assert onednn.works()


@pytest.mark.usefixtures('fresh')
@pytest.mark.skipif(threads.openmp() is None, reason="needs GNU's OpenMP")
def test_openmp_that_skips_parts(monkeypatch):
    monkeypatch.setattr(threads, '_by_openmp', lambda library, function, count, parts: function(0, 1))
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 2)
    threads.openmp.cache_clear()
    found = []
    with warned_once("cannot be called like GCC's OpenMP"):
        for _ in range(2):
            threads.for_ranges(lambda begin, end: found.extend(range(begin, end)), 10)
    assert sorted(found) == sorted([*range(10)] * 2)


def test_transforms_that_cannot_be_detected(monkeypatch):
    monkeypatch.delattr(torch._C._functorch, 'peek_interpreter_stack')
    try:
        with pytest.warns(UserWarning, match='does not tell whether torch.func is active'):
            importlib.reload(tracing)
        assert tracing.is_traced()
    finally:
        monkeypatch.undo()
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            importlib.reload(tracing)
    assert not tracing.is_traced()
