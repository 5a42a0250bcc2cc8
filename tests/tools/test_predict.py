"""`tools/predict.py`: the predictions of `tools/test.py` for plain images."""

import json
import pickle

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from PIL import Image
from pycocotools import mask as coco_mask

from evaluation.config.config_files import read_config
from evaluation.engine.prediction import COCO_IDS
from tests.commands import ROOT

pytestmark = pytest.mark.habits

KIND = 'Tables and other commands'
VAL = {'mask_rcnn': 'val2017', 'upernet': 'images/validation'}


@pytest.fixture
def predict(commands, tmp_path):
    return lambda *arguments: commands('predict', *arguments, folder=tmp_path)


def options(trial):
    """Return overrides that make a trial's model small."""
    return trial.arguments()[2:]


def test_predictions_equal_those_of_test(trial, checkpoint, commands, tmp_path):
    folder = trial.data_root / VAL[trial.task]
    model = [trial.config, checkpoint]
    commands.succeed('test', *model, '--out', 'out.pkl', *trial.arguments(), folder=tmp_path)
    given = ['--out', 'mine', '--score-threshold', 0, *options(trial)]
    outcome = commands.succeed('predict', *model, folder, *given, folder=tmp_path)
    assert '7 images predicted' in outcome.stdout
    samples = pickle.loads((tmp_path / 'out.pkl').read_bytes())
    mine = tmp_path / 'mine'
    assert len([*(mine / 'pictures').iterdir()]) == len(samples) == 7
    by_image = {}
    if trial.task == 'mask_rcnn':
        for entry in json.loads((mine / 'predictions.json').read_text()):
            by_image.setdefault(entry['file_name'], []).append(entry)
    for sample in samples:
        name = sample['img_path'].rpartition('/')[2]
        if trial.task == 'upernet':
            own = np.asarray(Image.open(mine / 'maps' / name.replace('.jpg', '.png')))
            assert np.array_equal(own, sample['pred_sem_seg']['data'][0].numpy())
            continue
        found = sample['pred_instances']
        assert [e['score'] for e in by_image[name]] == found['scores'].tolist()
        for entry, mask in zip(by_image[name], found['masks'], strict=True):
            assert np.array_equal(coco_mask.decode(entry['segmentation']), coco_mask.decode(mask))


def test_classifier(commands, trials, tmp_path):
    config = ROOT / 'configs/demo/imagenet_convnext_micro.py'
    cfg = read_config(str(config))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, tmp_path / 'weights.pth')
    image = next((trials['upernet'].data_root / VAL['upernet']).iterdir())
    commands.succeed('predict', config, 'weights.pth', image, '--out', 'mine', folder=tmp_path)
    (entry,) = json.loads((tmp_path / 'mine/predictions.json').read_text())
    assert entry['file_name'] == image.name
    scores = [each['score'] for each in entry['top5']]
    assert len(scores) == 5
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize('trial', ['upernet'], indirect=True)
def test_bad_input_writes_nothing(trial, checkpoint, predict, refused, tmp_path):
    good = next((trial.data_root / VAL['upernet']).iterdir())
    cut = tmp_path / 'cut.jpg'
    cut.write_bytes(good.read_bytes()[:-200])
    (tmp_path / 'empty').mkdir()
    narrow = tmp_path / 'narrow.png'
    Image.new('RGB', (200, 3)).save(narrow)
    other = tmp_path / 'other.pth'
    torch.save({'state_dict': {'backbone.x': torch.zeros(1)}}, other)
    for given, weights, image, message in (
        ('predict: a missing image', checkpoint, 'missing.jpg', 'missing.jpg is missing'),
        ('predict: a folder without images', checkpoint, 'empty', 'has no images'),
        ('predict: a truncated image', checkpoint, cut, 'cut.jpg is truncated'),
        ('predict: an image too narrow for the backbone', checkpoint, narrow, 'narrow.png: input of'),
        ('predict: a checkpoint of a different model', other, good, 'other.pth'),
    ):
        outcome = predict(trial.config, weights, good, image, '--out', 'mine', *options(trial))
        refused(KIND, given, outcome, message)
        assert not (tmp_path / 'mine').exists()
        assert not [*tmp_path.glob('.mine*')]


def test_ids_of_coco():
    assert len(COCO_IDS) == 80
    assert (COCO_IDS[0], COCO_IDS[-1], COCO_IDS[11]) == (1, 90, 13)
