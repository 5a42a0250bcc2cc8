"""Which library the products of linear layers come from, whatever the processor."""

import pytest

from backbones.ops import linear

# As by processors: not Intel's with AVX-512, not Intel's with AVX2, all others.
LIBRARIES = {
    'onednn': {'ONEDNN_IS_FASTER': True, 'MKL_IS_HELD_BACK': True},
    'onednn but for gradients of weights': {'ONEDNN_IS_FASTER': True, 'MKL_IS_HELD_BACK': False},
    'mkl': {'ONEDNN_IS_FASTER': False, 'MKL_IS_HELD_BACK': False},
}


def use_library(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Take the products of linear layers from one of `LIBRARIES`; skip where it is not there."""
    if name != 'mkl' and not linear.HAS_ONEDNN:
        pytest.skip('needs oneDNN')
    monkeypatch.setattr(linear, 'WIDE', 1)
    for setting, value in LIBRARIES[name].items():
        monkeypatch.setattr(linear, setting, value)
