"""The complete analysis on small models of every mixer, in one process."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

from backbones import MIXERS
from evaluation.analysis.parts import key_of
from evaluation.analysis.receptive_field import run
from evaluation.analysis.receptive_field.image_folder import find_images
from evaluation.analysis.receptive_field.run import Plan, analyze, batch_contributions, facts_of
from evaluation.analysis.receptive_field.targets import (
    center_value,
    feature_maps,
    grids_of_targets,
    top_detections,
)
from evaluation.engine.trained_model import build_model, read_analyzed_config
from evaluation.utils.errors import UserError
from evaluation.utils.interruption import Interrupted
from evaluation.utils.meta_device import build_without_values
from tests.commands import ROOT

SIZE = 64
CPU = torch.device('cpu')
STAGES = {f'stage{i}': (SIZE // 2**i // 2,) * 2 for i in (1, 2, 3, 4)}
GRIDS = {
    'mask_rcnn': STAGES | {f'neck{i}': (SIZE // 2**i // 2,) * 2 for i in (1, 2, 3, 4, 5)},
    'upernet': STAGES | {'logits': (16, 16)},
    'imagenet': STAGES,
}


def config(task, mixer):
    leaf = f'configs/demo/{task}_swin_micro.py'
    return read_analyzed_config(str(ROOT / leaf), {}, backbone=f'{mixer}_micro')


def model_of(cfg):
    """Build a model whose mixers have an effect; layer scales are too small at initialization."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = build_model(cfg, None, 0, CPU)
    for name, parameter in model.backbone.named_parameters():
        if 'scale' in name or 'gamma' in name:
            parameter.fill_(0.5)
    return model


@pytest.fixture
def images():
    return torch.randn(2, 3, SIZE, SIZE)


class TestEveryMixer:
    @pytest.mark.parametrize(
        ('task', 'mixer'),
        [
            *(('mask_rcnn', mixer) for mixer in MIXERS),
            ('upernet', 'dcn'),
            ('imagenet', 'swin'),
        ],
    )
    def test_every_target_has_the_gradient_of_a_separate_pass(self, task, mixer, images):
        """A shared forward pass without parameter gradients gives the same result."""
        cfg = config(task, mixer)
        model = model_of(cfg)
        grids = grids_of_targets(build_without_values(cfg.model, cfg.default_scope).eval(), SIZE)
        assert grids == GRIDS[task]
        found = batch_contributions(model, images, [*grids])
        maps = feature_maps(model, images, [*grids])
        assert {name: tuple(feature_map.shape[2:]) for name, feature_map in maps.items()} == grids
        model.requires_grad_()
        for name in ('stage1', 'stage4', [*grids][-1]):
            alone = images.clone().requires_grad_()
            feature_map = feature_maps(model, alone, [name])[name]
            (gradient,) = torch.autograd.grad(center_value(feature_map).sum(), alone)
            expected = gradient.abs().sum(1).double()
            assert expected.max() > 0
            torch.testing.assert_close(found[name], expected, rtol=1e-3, atol=1e-5 * expected.max())

    def test_first_stage_of_7x7_convolutions_is_a_square(self):
        """Three convolutions reach 9 tokens from the center, and each token reaches 3 pixels further."""
        model = model_of(config('mask_rcnn', 'convnext'))
        found = batch_contributions(model, torch.randn(1, 3, 128, 128), ['stage1'])['stage1'][0]
        square = torch.zeros(128, 128, dtype=torch.bool)
        reach = 4 * 9 + 3
        square[64 - reach : 64 + reach + 1, 64 - reach : 64 + reach + 1] = True
        assert torch.equal(found > 0, square)


class TestScore:
    def test_is_centered_contribution_to_the_best_detection(self, images):
        cfg = config('mask_rcnn', 'swin')
        cfg.model.test_cfg.rcnn.score_thr = 0.0
        model = model_of(cfg)
        with torch.no_grad():
            features = model.neck(model.backbone(images))
            top = top_detections(model, features, SIZE)
        assert top.images == [0, 1]
        assert top.scores.shape == (2,)
        found = batch_contributions(model, images, ['score'])['score']
        alone = images.clone().requires_grad_()
        again = top_detections(model, model.neck(model.backbone(alone)), SIZE)
        (gradient,) = torch.autograd.grad(again.scores.sum(), alone)
        for image, (row, column) in enumerate(again.middles):
            expected = gradient[image].abs().sum(0).double()
            down, right = SIZE // 2 - row, SIZE // 2 - column
            inside = np.s_[max(0, down) : SIZE + min(0, down), max(0, right) : SIZE + min(0, right)]
            rolled = expected.roll((down, right), (0, 1))
            torch.testing.assert_close(found[image][inside], rolled[inside], rtol=1e-3, atol=1e-9)
            assert found[image].sum() == pytest.approx(float(found[image][inside].sum()))

    def test_images_without_detections_are_skipped(self, images):
        model = model_of(config('mask_rcnn', 'swin'))
        model.roi_head.test_cfg.score_thr = 1.1
        assert [*batch_contributions(model, images, ['stage1', 'score'])] == ['stage1']


@pytest.fixture
def plan(tmp_path):
    """A plan with 11 images, which make two parts."""
    folder = tmp_path / 'images'
    folder.mkdir()
    for number in range(11):
        noise = np.random.default_rng(number).integers(0, 256, (70, 90, 3), np.uint8)
        cv2.imwrite(str(folder / f'{number:02d}.png'), noise)
    return Plan(
        cfg=config('mask_rcnn', 'convnext'),
        checkpoint=None,
        folder=folder,
        limit=None,
        size=SIZE,
        batch=2,
        targets=['stage1', 'stage3'],
        seed=0,
        device=CPU,
    )


def maps(result):
    return {target.name: target.mean for target in result.targets}


class TestAnalysis:
    def test_resumes_bitwise_identically(self, plan, tmp_path, monkeypatch):
        whole = analyze(plan, tmp_path / 'whole.json')
        loaded, load_image = [], run.load_image

        def interrupted(path, size):
            if path.name == '09.png' and not (tmp_path / 'again').exists():
                raise KeyboardInterrupt
            loaded.append(path.name)
            return load_image(path, size)

        monkeypatch.setattr(run, 'load_image', interrupted)
        with pytest.raises(Interrupted, match='1 of 2 parts are kept'):
            analyze(plan, tmp_path / 'erf.json')
        (tmp_path / 'again').touch()
        loaded.clear()
        result = analyze(plan, tmp_path / 'erf.json')
        assert loaded == ['08.png', '09.png', '10.png']
        assert [target.images for target in result.targets] == [11, 11]
        assert all(np.array_equal(maps(whole)[name], mean) for name, mean in maps(result).items())
        assert not (tmp_path / 'erf.partial').exists()

    def test_parts_of_a_different_run_are_not_reused(self, plan):
        files = find_images(plan.folder)
        weights = {'weights_sha256': 'a'}
        run_of = (plan, files, ['stage1'], weights)
        swin = config('mask_rcnn', 'swin')
        others = [
            (dataclasses.replace(plan, batch=1), *run_of[1:]),
            (dataclasses.replace(plan, size=96), *run_of[1:]),
            (dataclasses.replace(plan, cfg=swin), *run_of[1:]),
            (plan, files[1:], *run_of[2:]),
            (plan, files, ['stage1', 'stage2'], weights),
            (plan, files, ['stage1'], {'weights_sha256': 'b'}),
        ]
        keys = {key_of(facts_of(*run)) for run in (run_of, *others)}
        assert len(keys) == 1 + len(others)
        assert key_of(facts_of(dataclasses.replace(plan, limit=99), *run_of[1:])) in keys

    def test_out_of_memory(self, plan, tmp_path, monkeypatch):
        def refuses(*_):
            raise MemoryError

        monkeypatch.setattr(run, 'model_input', refuses)
        with pytest.raises(UserError, match='batch of 2 images of 64x64; give a smaller --batch or'):
            analyze(plan, tmp_path / 'erf.json')

    def test_warns_if_map_is_off_center(self, plan, tmp_path, capsys):
        analyze(dataclasses.replace(plan, size=96, limit=1), tmp_path / 'erf.json')
        assert capsys.readouterr().err == ''
        stage4 = dataclasses.replace(plan, size=96, limit=1, targets=['stage4'])
        analyze(stage4, tmp_path / 'erf.json')
        assert (
            'the center of the map of stage4 (3x3) is 16 pixels away from the center of the image; '
            'give a --size that is a multiple of 64'
        ) in capsys.readouterr().err

    def test_mean_is_over_images(self, plan, tmp_path):
        one, two = (
            analyze(dataclasses.replace(plan, limit=limit, batch=1), tmp_path / 'erf.json')
            for limit in (1, 2)
        )
        for name, mean in maps(two).items():
            assert not np.array_equal(mean, maps(one)[name])
            assert (2 * mean >= maps(one)[name] * (1 - 1e-6)).all()
