"""Which library the products of linear layers come from, whatever the processor."""

import pytest

from backbones.ops.cpu import onednn

# As by processors: AMD's of Zen 5; others not by Intel; Intel's.
LIBRARIES = {
    'onednn': {'NARROWEST_BY_ONEDNN': 1, 'WEIGHT_GRADIENTS_BY_ONEDNN': True},
    'onednn but for gradients of weights': {
        'NARROWEST_BY_ONEDNN': 1,
        'WEIGHT_GRADIENTS_BY_ONEDNN': False,
    },
    'mkl': {'NARROWEST_BY_ONEDNN': None, 'WEIGHT_GRADIENTS_BY_ONEDNN': False},
}


def use_library(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Take the products of linear layers from one of `LIBRARIES`; skip where it is not there."""
    if name != 'mkl' and not onednn.works():
        pytest.skip('needs oneDNN')
    for setting, value in LIBRARIES[name].items():
        monkeypatch.setattr(onednn, setting, value)
