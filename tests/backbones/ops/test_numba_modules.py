import warnings

import pytest

from backbones.ops.numba_modules import numba_module


@pytest.fixture(autouse=True)
def not_remembered():
    numba_module.cache_clear()
    yield
    numba_module.cache_clear()


def test_without_numba_one_warning_and_none(monkeypatch):
    def missing(name):
        raise ImportError(f'no {name}')

    monkeypatch.setattr('importlib.import_module', missing)
    with pytest.warns(UserWarning, match='training on the CPU is slow: numba cannot be used'):
        assert numba_module('gelu_cpu', 'training') is None
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert numba_module('gelu_cpu', 'training') is None


def test_with_numba_the_module():
    assert numba_module('gelu_cpu', 'training').__name__ == 'backbones.ops.gelu_cpu'
