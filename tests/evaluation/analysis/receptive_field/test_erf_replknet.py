"""Receptive fields with RepLKNet's protocol, compared with a naive implementation."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.analysis.parts import key_of
from evaluation.analysis.receptive_field.presentation import area_table
from evaluation.analysis.receptive_field.result import (
    THRESHOLDS,
    logged_area_ratios,
    maps_of,
    read_maps,
    write_result,
)
from evaluation.analysis.receptive_field.run import Plan, analyze, facts_of
from evaluation.analysis.receptive_field.targets import feature_maps
from evaluation.engine.trained_model import build_model, read_analyzed_config
from evaluation.utils.errors import UserError
from tests.commands import ROOT

SIZE = 64
CPU = torch.device('cpu')


def naive_area_ratios(contribution):
    """Compute area ratios of the logarithm, square by square."""
    logged = np.log10(contribution + 1)
    logged = logged / logged.max()
    height, width = logged.shape
    ratios = {}
    for share in THRESHOLDS:
        ratios[share] = None
        for i in range(1, height // 2):
            rows = logged[height // 2 - i : height // 2 + 1 + i]
            held = rows[:, width // 2 - i : width // 2 + 1 + i].sum() / logged.sum()
            if held > share:
                ratios[share] = (2 * i + 1) / height * (2 * i + 1) / width
                break
    return ratios


@pytest.mark.parametrize('scale', [1e-6, 1.0, 1e6])
@pytest.mark.parametrize('side', [32, 33])
def test_area_ratios(scale, side):
    distances = np.hypot(*(np.indices((side, side)) - side // 2))
    noise = np.random.default_rng(0).random((side, side))
    for contribution in (np.exp(-distances / 4) * noise, np.exp(-(distances**2)), noise):
        found = logged_area_ratios(scale * contribution)
        expected = naive_area_ratios(scale * contribution)
        assert found == {share: pytest.approx(ratio) for share, ratio in expected.items()}


def test_no_square_contains_enough():
    """For even sides, the largest square omits a row and a column."""
    assert logged_area_ratios(np.ones((4, 4)))[0.99] is None


@pytest.fixture(scope='module')
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    generator = np.random.default_rng(0)
    for number, shape in enumerate([(70, 90, 3), (64, 64, 3), (50, 40, 3)]):
        pixels = generator.integers(0, 256, shape, np.uint8)
        Image.fromarray(pixels).save(folder / f'{number}.png')
    cfg = read_analyzed_config(
        str(ROOT / 'configs/demo/imagenet_convnext_micro.py'),
        {'model.backbone.layer_scale_init_value': 0.5},
    )
    return Plan(cfg, None, folder, None, SIZE, 2, ['stage2', 'stage4'], 0, CPU, 'replknet')


@pytest.fixture(scope='module')
def result(plan, tmp_path_factory):
    return analyze(plan, tmp_path_factory.mktemp('erf') / 'here.json')


@pytest.mark.parametrize('index', [0, 1])
def test_result_equals_naive_version(plan, result, index):
    """Images are squashed to squares; the positive part of the gradient is averaged over images."""
    model = build_model(plan.cfg, None, 0, CPU)
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    target, total = result.targets[index], 0
    for file in sorted(plan.folder.iterdir()):
        resized = Image.open(file).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        image = (torch.from_numpy(np.array(resized)).float() - mean) / std
        image = image.permute(2, 0, 1)[None].requires_grad_()
        feature_map = feature_maps(model, image, [target.name])[target.name]
        height, width = feature_map.shape[2:]
        value = feature_map[:, :, height // 2, width // 2].relu().sum()
        (gradient,) = torch.autograd.grad(value, image)
        total = total + gradient.relu().sum((0, 1)).numpy().astype(np.float64)
    np.testing.assert_allclose(target.mean, total / 3, rtol=1e-3, atol=1e-7)
    assert target.area_ratios == {
        share: pytest.approx(ratio) for share, ratio in naive_area_ratios(total / 3).items()
    }


def test_protocol_is_recorded_and_named(plan, result, tmp_path):
    file = tmp_path / 'erf.json'
    write_result(result, file)
    content = json.loads(file.read_text())
    assert content['protocol'] == 'replknet'
    assert [*content['columns']['figures']] == ['ERF stage4 (RepLKNet)']
    assert content['columns']['note'].startswith('ERF (RepLKNet): area')
    maps = read_maps(file)
    assert maps.protocol == 'replknet'
    assert maps.targets[1].area_ratios == pytest.approx(result.targets[1].area_ratios)
    table = area_table([maps])
    assert table.title.endswith('64x64 (RepLKNet)')
    assert 'log10(x + 1)' in table.notes[0]
    assert maps_of(result).protocol == 'replknet'
    described = {'weights_sha256': 'a'}
    keys = {
        key_of(facts_of(dataclasses.replace(plan, protocol=protocol), [], [], described))
        for protocol in ('suite', 'replknet')
    }
    assert len(keys) == 2


def test_protocols_are_not_compared(result, tmp_path):
    from tools.analyze_erf import compare

    write_result(result, tmp_path / 'replknet.json')
    targets = [dataclasses.replace(target, protocol='suite') for target in result.targets]
    ours = dataclasses.replace(result, protocol='suite', targets=targets)
    write_result(ours, tmp_path / 'ours.json')
    files = [tmp_path / 'replknet.json', tmp_path / 'ours.json']
    with pytest.raises(UserError, match=r'ours\.json uses protocol suite, .* uses replknet; compare'):
        compare(files, tmp_path / 'both.png')
