"""The complete analysis on small models of the three tasks, in one process."""

import argparse
from dataclasses import replace

import numpy as np
import pytest
import torch

import backbones  # noqa: F401  (before mmdet and mmseg, which need its operators)
from evaluation.analysis.detectors import Detection, Objects
from evaluation.analysis.robustness import run
from evaluation.analysis.robustness.attack_losses import check_attackable, instances
from evaluation.analysis.robustness.conditions import CLEAN, Condition, Plan, corrupted
from evaluation.analysis.robustness.run import (
    analyze,
    attacked_trials,
    corrupted_sample,
    measured,
    schedule,
    summarize,
)
from evaluation.analysis.subject import open_subject
from evaluation.demo.demo import PRETRAINING_STYLE
from evaluation.engine.trained_model import build_model, read_analyzed_config
from evaluation.scenes.scene_datasets import write_datasets, write_imagenet
from evaluation.scenes.scenes import SceneStyle
from evaluation.utils.errors import UserError
from evaluation.utils.interruption import Interrupted
from tests.commands import ROOT

COUNT = 9
SMALL = {'model.backbone.dims': [16, 32, 64, 128], 'model.backbone.depths': [1, 1, 1, 1]}
# Sorted by task. Scenes are 80x64; dense models see them resized.
CONFIGS = {
    'classification': ('imagenet_convnext_micro', 'imagenet', SMALL),
    'detection': (
        'mask_rcnn_convnext_micro',
        'coco',
        SMALL
        | {
            'model.neck.in_channels': [16, 32, 64, 128],
            'test_dataloader.dataset.pipeline.1.scale': (96, 96),
            'model.test_cfg.rcnn.score_thr': 0.0,
        },
    ),
    'segmentation': (
        'upernet_convnext_micro',
        'ADEChallengeData2016',
        SMALL
        | {
            'model.decode_head.in_channels': [16, 32, 64, 128],
            'model.auxiliary_head.in_channels': 64,
            'test_dataloader.dataset.pipeline.1.scale': (96, 96),
        },
    ),
}
PLAN = Plan(
    attacks=['fgsm', 'pgd'],
    norm='linf',
    budgets=[0.0, 4.0],
    steps=2,
    corruptions=['fog'],
    severities=[1, 5],
    seed=3,
)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    write_datasets(folder, SceneStyle(height=64, width=80), {'train': 1, 'val': COUNT}, seed=0)
    write_imagenet(folder / 'imagenet', PRETRAINING_STYLE, {'train': 40, 'val': 12}, seed=0)
    return folder


@pytest.fixture(scope='module')
def subject_of(data, tmp_path_factory):
    """Builder of subjects: a model with random weights and the first images of its test data set."""

    def build(task, limit=3, batch=4):
        name, root, options = CONFIGS[task]
        file = str(ROOT / f'configs/demo/{name}.py')
        cfg = read_analyzed_config(file, options)
        weights = tmp_path_factory.mktemp(task) / 'weights.pth'
        torch.save(build_model(cfg, None, 0, torch.device('cpu')).state_dict(), weights)
        arguments = argparse.Namespace(
            backbone=None,
            config=file, checkpoint=str(weights), cfg_options=options, device='cpu', limit=limit,
            batch=batch, data_root=str(data / root), skip_bad_images=False, checkpoint_key=None,
        )  # fmt: skip
        return open_subject(arguments)

    return build


def profile_of(subject, plan, output):
    parts = analyze(subject, plan, output)
    profile = summarize(subject, plan, parts)
    parts.remove()
    return profile


def result_of(profile, name, level=0):
    return next(each for each in profile.results if each.condition == Condition(name, level))


@pytest.mark.parametrize('task', CONFIGS)
class TestEveryTask:
    def test_zero_budget_equals_clean_bitwise(self, subject_of, task, tmp_path):
        profile = profile_of(subject_of(task), PLAN, tmp_path / 'robustness.json')
        clean = profile.results[0]
        assert clean.condition.name == CLEAN
        for name in PLAN.attacks:
            zero = result_of(profile, name, 0.0)
            np.testing.assert_equal(dict(zero.metrics), dict(clean.metrics))
            assert zero.loss == clean.loss
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize('norm', ['linf', 'l2'])
    def test_pgd_is_stronger_than_fgsm_and_clean(self, subject_of, task, norm, tmp_path):
        plan = replace(PLAN, norm=norm, corruptions=[], budgets=[4.0])
        profile = profile_of(subject_of(task), plan, tmp_path / 'robustness.json')
        losses = [result_of(profile, *each).loss for each in (('fgsm', 4.0), ('pgd', 4.0))]
        assert losses[1] >= losses[0] > profile.results[0].loss

    def test_images_keep_the_budget(self, subject_of, task):
        subject = subject_of(task)
        (trials, *_) = attacked_trials(subject, replace(PLAN, budgets=[2.0]), [0, 1])
        clean = {t.index: t.image.astype(float) for t in trials if t.condition.name == CLEAN}
        changes = [np.abs(t.image - clean[t.index]).max() for t in trials if t.condition.is_attack]
        assert max(changes) == 2.0

    def test_randomness_depends_only_on_seed_and_image(self, subject_of, task):
        subject = subject_of(task, batch=1)
        plan = replace(PLAN, budgets=[4.0], attacks=['pgd'])

        def image_of(indices):
            runs = attacked_trials(subject, plan, indices)
            trials = [trial for run in runs for trial in run]
            return next(t.image for t in trials if t.index == 1 and t.condition.is_attack)

        torch.rand(3)
        assert np.array_equal(image_of([0, 1]), image_of([1]))

    def test_resumes_after_an_interruption(self, subject_of, task, tmp_path, monkeypatch):
        subject = subject_of(task, limit=COUNT)
        plan = replace(PLAN, attacks=['fgsm'])
        whole = profile_of(subject, plan, tmp_path / 'whole.json')
        seen = []

        def interrupted(subject, plan, share):
            if len(seen) == 2:
                raise KeyboardInterrupt
            seen.append(share)
            return measured(subject, plan, share)

        monkeypatch.setattr(run, 'measured', interrupted)
        with pytest.raises(Interrupted):
            analyze(subject, plan, tmp_path / 'other.json')
        monkeypatch.setattr(run, 'measured', measured)
        np.testing.assert_equal(profile_of(subject, plan, tmp_path / 'other.json'), whole)


class TestCorruptedImages:
    @pytest.mark.parametrize('task', ['detection', 'segmentation'])
    def test_dense_tasks_corrupt_before_resizing(self, subject_of, task):
        subject = subject_of(task)
        sizes = []

        def seen(image):
            sizes.append(image.shape)
            return np.zeros_like(image)

        sample, before = subject.samples.changed(0, seen), subject.samples[0]
        assert sizes == [(64, 80, 3)]
        assert sample.image.shape == before.image.shape == (77, 96, 3)
        assert not sample.image.any()
        assert repr(sample.truth) == repr(before.truth)
        pale = corrupted_sample(subject, 0, Condition('contrast', 3), 0)
        assert pale.image.std() < 0.3 * before.image.std()

    def test_classification_corrupts_after_cropping(self, subject_of):
        subject = subject_of('classification')
        sample = subject.samples[2]
        found = corrupted_sample(subject, 2, Condition('fog', 3), 7)
        assert np.array_equal(found.image, corrupted(sample.image, 'fog', 3, 7, 2))
        assert found.truth == sample.truth


class TestSchedule:
    @pytest.mark.parametrize(('images', 'passes'), [(1, 1), (9, 2), (16, 16), (37, 5)])
    def test_has_every_image_of_every_pass_once_and_in_order(self, images, passes):
        found = schedule(images, passes)
        assert len(found) == images * passes
        for number in range(passes):
            assert [i for p, i in found if p == number] == [*range(images)]

    def test_expensive_passes_are_spread_over_processes(self):
        parts = schedule(64, 16)[::8]
        assert {place % 2 for place, (number, _) in enumerate(parts) if number == 0} == {0, 1}


class TestTargets:
    def test_crowds_are_omitted(self):
        square = [np.array([[2.0, 2], [8, 2], [8, 8], [2, 8]])]
        truth = Objects(
            size=(20, 30),
            labels=np.array([1, 2]),
            boxes=np.array([[2.0, 2, 8, 8]] * 2),
            crowd=np.array([True, False]),
            outlines=[square, square],
        )
        found = instances(truth)
        assert found.labels.tolist() == [2]
        assert found.masks.shape == (1, 20, 30)
        assert found.masks.sum() == 36

    def test_no_objects(self):
        empty = np.zeros((0, 4))
        truth = Objects((20, 30), np.zeros(0, np.int64), empty, np.zeros(0, bool), [])
        assert instances(truth).masks.shape == (0, 20, 30)

    def test_unsupported_detector_is_refused(self):
        class DETR(torch.nn.Module):
            pass

        with pytest.raises(UserError, match=r'DETR is neither a two-stage detector .*--attacks none'):
            check_attackable(Detection(), DETR())
