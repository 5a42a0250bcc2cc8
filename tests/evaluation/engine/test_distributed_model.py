"""Settings of the model wrapper for training with several processes."""

import pytest
from mmengine.config import Config
from mmengine.registry import MODEL_WRAPPERS
from torch import nn

from evaluation.engine import experiment
from evaluation.engine.experiment import set_backend

pytestmark = pytest.mark.habits


def wrapper_on(monkeypatch, gpu, **settings):
    """Return the wrapper's settings for a training with several processes."""
    monkeypatch.setattr(experiment.torch.cuda, 'is_available', lambda: gpu)
    cfg = Config({'launcher': 'pytorch', 'env_cfg': {'dist_cfg': {'backend': 'nccl'}}, **settings})
    set_backend(cfg)
    assert cfg.env_cfg.dist_cfg.backend == ('nccl' if gpu else 'gloo')
    found = cfg.get('model_wrapper_cfg')
    return None if found is None else dict(found)


CPU = {'type': 'MMDistributedDataParallel', 'device_ids': None}


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        ({}, {**CPU, 'broadcast_buffers': False}),
        (
            {'find_unused_parameters': True},
            {**CPU, 'broadcast_buffers': False, 'find_unused_parameters': True},
        ),
        ({'model_wrapper_cfg': {'static_graph': True}}, {**CPU, 'static_graph': True}),
        (
            {'model_wrapper_cfg': {'type': 'MMSeparateDistributedDataParallel'}},
            {'type': 'MMSeparateDistributedDataParallel', 'device_ids': None},
        ),
        (
            {'model_wrapper_cfg': {'find_unused_parameters': False}, 'find_unused_parameters': True},
            {**CPU, 'find_unused_parameters': False},
        ),
    ],
)
def test_on_cpus_settings_are_kept(monkeypatch, settings, expected):
    assert wrapper_on(monkeypatch, False, **settings) == expected


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        ({}, None),
        ({'find_unused_parameters': True}, None),  # mmengine reads it
        (
            {'model_wrapper_cfg': {'broadcast_buffers': True}, 'find_unused_parameters': True},
            {
                'type': 'MMDistributedDataParallel',
                'broadcast_buffers': True,
                'find_unused_parameters': True,
            },
        ),
    ],
)
def test_on_gpus_settings_are_kept(monkeypatch, settings, expected):
    assert wrapper_on(monkeypatch, True, **settings) == expected


def test_custom_wrapper_gets_no_unsupported_setting(monkeypatch):
    class Plain(nn.Module):
        def __init__(self, module):
            super().__init__()

    with monkeypatch.context() as patch:
        patch.setitem(MODEL_WRAPPERS.module_dict, 'Plain', Plain)
        own = {'type': 'Plain'}
        assert wrapper_on(patch, False, model_wrapper_cfg=own, find_unused_parameters=True) == own


def test_single_process_has_no_wrapper():
    cfg = Config({'launcher': 'none', 'find_unused_parameters': True})
    set_backend(cfg)
    assert 'model_wrapper_cfg' not in cfg
