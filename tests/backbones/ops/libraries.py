"""Choose the matrix library of linear layers, regardless of the processor."""

import pytest

from backbones.ops.cpu import onednn

# As on AMD Zen 5; as on other processors that are not from Intel; as on Intel.
LIBRARIES = {
    'onednn': {'NARROWEST_BY_ONEDNN': 1, 'WEIGHT_GRADIENTS_BY_ONEDNN': True},
    'onednn except for weight gradients': {
        'NARROWEST_BY_ONEDNN': 1,
        'WEIGHT_GRADIENTS_BY_ONEDNN': False,
    },
    'mkl': {'NARROWEST_BY_ONEDNN': None, 'WEIGHT_GRADIENTS_BY_ONEDNN': False},
}


def use_library(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Compute linear layers with one of `LIBRARIES`; skip the test if it is not available."""
    if name != 'mkl' and not onednn.works():
        pytest.skip('needs oneDNN')
    for setting, value in LIBRARIES[name].items():
        monkeypatch.setattr(onednn, setting, value)
