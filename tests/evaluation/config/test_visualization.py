"""Visualization backends whose packages may be missing."""

import importlib.util

import mmengine.visualization.vis_backend as backends
import pytest
from mmengine.config import Config
from mmengine.visualization import BaseVisBackend

from evaluation.config.checks import PACKAGES_OF_BACKENDS, check_visualization
from evaluation.utils.errors import UserError

pytestmark = pytest.mark.habits


def config(*types):
    return Config({'visualizer': {'vis_backends': [{'type': each} for each in types]}})


@pytest.mark.parametrize('backend', PACKAGES_OF_BACKENDS)
def test_missing_package(monkeypatch, backend):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError) as caught:
        check_visualization(config('LocalVisBackend', backend))
    package = PACKAGES_OF_BACKENDS[backend]
    assert str(caught.value) == (
        f'visualizer.vis_backends.1 ({backend}) needs the package {package}: pip install {package}, or '
        'leave this entry out'
    )


@pytest.mark.parametrize('backend', [*PACKAGES_OF_BACKENDS, 'LocalVisBackend'])
def test_present_package(monkeypatch, backend):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: object())
    check_visualization(config(backend))


def test_all_of_mmengine_are_known():
    classes = [each for each in vars(backends).values() if isinstance(each, type)]
    names = {each.__name__ for each in classes if issubclass(each, BaseVisBackend)}
    assert names - {'BaseVisBackend', 'LocalVisBackend'} == {*PACKAGES_OF_BACKENDS}


@pytest.mark.parametrize('visualizer', [None, {}, {'vis_backends': None}])
def test_no_backends(visualizer):
    check_visualization(Config({'visualizer': visualizer}))
