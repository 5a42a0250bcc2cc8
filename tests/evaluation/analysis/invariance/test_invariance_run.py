"""The complete analysis of a small classifier, in one process."""

import argparse
import dataclasses
import json

import pytest
import torch
from torch import nn

from evaluation.analysis.adapter import Samples, task_of
from evaluation.analysis.invariance.conditions import choose_conditions
from evaluation.analysis.invariance.prediction_changes import Settings
from evaluation.analysis.invariance.result import read_results, write_result
from evaluation.analysis.invariance.run import analyze, summarize
from evaluation.analysis.parts import key_of
from evaluation.analysis.subject import facts_of, open_subject
from evaluation.demo.demo import PRETRAINING_STYLE
from evaluation.engine.trained_model import build_model, read_analyzed_config
from evaluation.scenes.scene_datasets import write_imagenet
from evaluation.utils.errors import UserError
from evaluation.utils.interruption import Interrupted
from tests.commands import ROOT

CONFIG = str(ROOT / 'configs/demo/imagenet_dcn_micro.py')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with 11 images, which make two parts, and a checkpoint."""
    folder = tmp_path_factory.mktemp('invariance')
    write_imagenet(folder / 'data', PRETRAINING_STYLE, {'train': 24, 'val': 11}, seed=0)
    model = build_model(read_analyzed_config(CONFIG, {}), None, 0, torch.device('cpu'))
    torch.save({'state_dict': model.state_dict()}, folder / 'model.pth')
    return folder


def opened(folder, **more):
    arguments = {
        'config': CONFIG,
        'checkpoint': str(folder / 'model.pth'),
        'cfg_options': {},
        'checkpoint_key': None,
        'device': 'cpu',
        'data_root': str(folder / 'data'),
        'skip_bad_images': False,
        'limit': None,
        'batch': 4,
    }
    return open_subject(argparse.Namespace(**{'backbone': None, **arguments, **more}))


@pytest.fixture(scope='module')
def subject(folder):
    return opened(folder)


@pytest.fixture
def settings():
    return Settings(choose_conditions(['rotation', 'scale'], None, 2, None), None, None, None)


def test_resumes_bitwise_identically(subject, settings, tmp_path, monkeypatch):
    whole = summarize(subject, settings, analyze(subject, settings, tmp_path / 'whole.json'))
    seen, load = [], Samples.__getitem__

    def interrupted(samples, index):
        if index == 9 and not (tmp_path / 'again').exists():
            raise KeyboardInterrupt
        seen.append(index)
        return load(samples, index)

    monkeypatch.setattr(Samples, '__getitem__', interrupted)
    with pytest.raises(Interrupted, match='1 of 2 parts are kept'):
        analyze(subject, settings, tmp_path / 'here.json')
    (tmp_path / 'again').touch()
    seen.clear()
    parts = analyze(subject, settings, tmp_path / 'here.json')
    assert seen == [8, 9, 10]
    result = summarize(subject, settings, parts)
    assert result == whole
    parts.remove()
    assert not (tmp_path / 'here.partial').exists()


def test_result_round_trip(subject, settings, tmp_path):
    result = summarize(subject, settings, analyze(subject, settings, tmp_path / 'here.json'))
    result.curves['scale'].metrics['top-1'][0] = float('nan')
    write_result(result, tmp_path / 'here.json')
    assert (
        json.loads((tmp_path / 'here.json').read_text())['curves']['scale']['metrics']['top-1'][0]
        is None
    )
    (read,) = read_results([tmp_path / 'here.json'])
    assert str(read.curves) == str(result.curves)
    assert read.unchanged == result.unchanged
    assert read.name == 'imagenet_dcn_micro (model)'
    assert ',,' in (tmp_path / 'here.csv').read_text()


def test_unchanged_metrics_equal_test_metrics(subject, settings, tmp_path):
    """Top-1 is computed independently, from the data set's own pipeline."""
    result = summarize(subject, settings, analyze(subject, settings, tmp_path / 'here.json'))
    right = [
        subject.predict([sample.image])[0].argmax() == sample.truth
        for sample in map(subject.samples.__getitem__, range(11))
    ]
    assert result.unchanged['top-1'] == pytest.approx(100 * sum(right) / 11)
    assert result.curves['rotation'].metrics['top-1'][0] == result.unchanged['top-1']


def test_parts_of_a_different_run_are_not_reused(subject, folder):
    others = [
        dataclasses.replace(subject, batch=1),
        opened(folder, limit=10),
        opened(folder, cfg_options={'test_dataloader.dataset.pipeline.1.crop_pct': 0.9}),
    ]
    keys = {key_of(facts_of(each)) for each in (subject, *others)}
    assert len(keys) == 1 + len(others)
    assert key_of(facts_of(opened(folder, limit=99))) in keys


def test_out_of_memory(subject, settings, tmp_path, monkeypatch):
    def refuses(*_):
        raise MemoryError

    monkeypatch.setattr(type(subject.task), 'predict', refuses)
    with pytest.raises(UserError, match='not enough memory for a batch of 4 images; give a smaller --b'):
        analyze(subject, settings, tmp_path / 'here.json')


def test_model_of_unknown_task():
    with pytest.raises(
        UserError, match='Identity is not an ImageClassifier, an mmdet detector or an mmseg segmentor'
    ):
        task_of(nn.Identity())


def test_columns_next_to_accuracy(subject, settings, tmp_path):
    """Columns contain the mean consistency of each transform."""
    result = summarize(subject, settings, analyze(subject, settings, tmp_path / 'here.json'))
    write_result(result, tmp_path / 'here.json')
    columns = json.loads((tmp_path / 'here.json').read_text())['columns']
    assert columns['figures'] == {
        f'{name} consistency': pytest.approx(sum(curve.metrics['consistency']) / 2)
        for name, curve in result.curves.items()
    }
    assert 'rotation 0 to 90 degrees' in columns['note']
    assert columns['note'].endswith('images: 11.')
