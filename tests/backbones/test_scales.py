"""Recognize backbones by their weights."""

import json

import pytest
import torch
from mmengine.registry import MODELS

from backbones.checkpoint import recognize
from backbones.checkpoint.scales import SCALES
from tests.variants import ROOT, VARIANTS, classifier_config

RELEASED = json.loads((ROOT / 'tests/data/released_names.json').read_text())


def shapes(config):
    with torch.device('meta'):
        return MODELS.build(config).state_dict()


@pytest.mark.parametrize('name', VARIANTS)
def test_in_the_names_of_the_suite(name):
    assert recognize(shapes(VARIANTS[name])) == name
    assert recognize(shapes(classifier_config(VARIANTS[name]))) == name


@pytest.mark.parametrize('name', RELEASED)
def test_in_the_released_names(name):
    parameters = RELEASED[name]['parameters'].items()
    assert recognize({key: torch.empty(shape, device='meta') for key, shape in parameters}) == name


def test_every_scale_is_known():
    known = {f'{mixer}_{scale}' for mixer, scales in SCALES.items() for scale in scales}
    assert known == set(VARIANTS) > set(RELEASED)


@pytest.mark.parametrize(
    'options', [{'dims': [48, 96, 192, 384]}, {'depths': [2, 2, 5, 2]}, {'depths': [2, 6, 2, 2]}]
)
def test_other_widths_and_depths_are_unknown(options):
    assert recognize(shapes({**VARIANTS['convnext_tiny'], **options})) is None


@pytest.mark.parametrize(
    'weights',
    [{}, {'layer1.0.conv1.weight': torch.zeros(1)}, {'stages.0.0.mixer.height_rel': torch.zeros(1)}],
)
def test_unknown_weights(weights):
    assert recognize(weights) is None
