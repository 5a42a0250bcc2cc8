"""Switching between fast paths and plain PyTorch, and fallbacks without their libraries."""

import warnings

import pytest
import torch
from mmengine.registry import MODELS

from backbones import MIXERS, BackboneError
from backbones.ops import fast_paths
from backbones.ops.dcnv3 import dcnv3, implementation
from backbones.ops.fast_paths import BACKENDS, REPLACED, fast_path, is_fast
from tests.variants import MICRO

OPERATORS = (
    'attention',
    'convolution',
    'dcnv3',
    'dcnv4',
    'depthwise',
    'halo_gradients',
    'linear_attention',
    'neighborhood_attention',
    'selective_scan',
    'window_gradients',
)


@pytest.fixture(autouse=True)
def not_remembered(monkeypatch):
    for backend in BACKENDS.values():
        monkeypatch.delenv(backend.setting, raising=False)
    fast_paths._imported.cache_clear()
    yield
    fast_paths._imported.cache_clear()


@pytest.fixture
def without_libraries(monkeypatch):
    def missing(name):
        raise ImportError(f'no {name}')

    monkeypatch.setattr('importlib.import_module', missing)


@pytest.mark.parametrize('device', BACKENDS)
def test_is_on_unless_the_environment_says_otherwise(monkeypatch, device):
    setting = BACKENDS[device].setting
    assert is_fast(device)
    monkeypatch.setenv(setting, 'reference')
    assert not is_fast(device)
    assert all(fast_path(device, operator, 'it') is None for operator in OPERATORS)
    monkeypatch.setenv(setting, 'fast')
    assert is_fast(device)


def test_other_devices_have_no_fast_paths():
    assert fast_path('xpu', 'dcnv3', 'it') is None


@pytest.mark.parametrize('operator', OPERATORS)
def test_every_operator_of_the_cpu_has_a_module(operator):
    assert fast_path('cpu', operator, 'it').__name__ == f'backbones.ops.cpu.{operator}'


def test_unknown_choice_is_rejected(monkeypatch):
    monkeypatch.setenv('DENSE_MIXERS_CPU', 'fastest')
    value, offsets = (
        torch.zeros(1, 2, 2, 1, 1),
        torch.zeros(1, 2, 2, 1, 1, 2),
    )
    with pytest.raises(BackboneError, match='DENSE_MIXERS_CPU=fastest: choose fast or reference'):
        dcnv3(value, offsets, value, 1)


def test_outdated_setting_names_the_new_one(monkeypatch):
    monkeypatch.setenv(REPLACED, 'numba')
    with pytest.raises(BackboneError, match='set DENSE_MIXERS_CPU to fast or reference'):
        is_fast('cpu')


@pytest.mark.usefixtures('without_libraries')
def test_without_numba_one_warning_and_plain_pytorch():
    with pytest.warns(
        UserWarning, match='convolution on cpu falls back to slow plain PyTorch: numba cannot be used'
    ):
        assert implementation('cpu', torch.float32) == 'reference'
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert implementation('cpu', torch.float32) == 'reference'


@pytest.mark.parametrize('mixer', MIXERS)
def test_backbones_give_the_same_results_without_fast_paths(monkeypatch, mixer):
    torch.manual_seed(0)
    settings = {**MICRO[f'{mixer}_micro'], 'depths': [1, 2, 1, 1], 'layer_scale_init_value': 1.0}
    model = MODELS.build(settings).eval()
    images = torch.rand(2, 3, 96, 96)

    def outputs_and_gradients():
        model.zero_grad()
        outputs = model(images)
        sum(out.square().mean() for out in outputs).backward()
        return *outputs, *(parameter.grad for parameter in model.parameters())

    fast = outputs_and_gradients()
    monkeypatch.setenv('DENSE_MIXERS_CPU', 'reference')
    for found, expected in zip(fast, outputs_and_gradients(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
