"""The inferencers of mmdet and mmseg on the suite's configs."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

import backbones  # noqa: F401  (before mmdet and mmseg)

from mmdet.apis import DetInferencer, inference_detector, init_detector  # isort: skip
from mmseg.apis import MMSegInferencer, inference_model, init_model  # isort: skip
from tests.commands import ROOT

pytestmark = pytest.mark.habits

FILES = {task: ROOT / f'configs/demo/{task}_convnext_micro.py' for task in ('mask_rcnn', 'upernet')}
CLASSES = {'mask_rcnn': ['disc', 'bolt'] + ['x'] * 4, 'upernet': ['ground'] + ['x'] * 7}


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    files = {}
    for task, path in FILES.items():
        cfg = Config.fromfile(path)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            weights = MODELS.build(cfg.model).state_dict()
        palette = [(10 * i, 0, 0) for i in range(len(CLASSES[task]))]
        files[task] = str(tmp_path_factory.mktemp(task) / 'weights.pth')
        meta = {'dataset_meta': {'classes': CLASSES[task], 'palette': palette}}
        torch.save({'state_dict': weights, 'meta': meta}, files[task])
    return files


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f'{number}.png')
    return folder


@pytest.fixture(params=['path', 'Config'])
def config_of(request):
    return lambda task: str(FILES[task]) if request.param == 'path' else Config.fromfile(FILES[task])


def kinds_of_input(folder):
    paths = sorted(map(str, folder.iterdir()))
    array = np.asarray(Image.open(paths[0]))[..., ::-1].copy()
    return {'path': paths[0], 'array': array, 'list': paths, 'folder': str(folder)}


def test_det_inferencer(config_of, checkpoints, folder, tmp_path):
    inferencer = DetInferencer(config_of('mask_rcnn'), checkpoints['mask_rcnn'], device='cpu')
    found = {}
    for kind, images in kinds_of_input(folder).items():
        out = tmp_path / kind
        # mmdet names prediction files after the image path, which an array does not have.
        unsaved = kind == 'array'
        found[kind] = inferencer(images, out_dir=str(out), no_save_pred=unsaved)['predictions']
        count = 2 if kind in ('list', 'folder') else 1
        assert len([*(out / 'vis').iterdir()]) == count
        if kind != 'array':
            assert len([*(out / 'preds').iterdir()]) == count
    # A path, an array in BGR order and a list are the same image.
    assert found['path'][0]['scores'] == found['array'][0]['scores'] == found['list'][0]['scores']
    assert json.dumps(sorted(found['folder'][0])) == json.dumps(sorted(found['path'][0]))
    assert list(inferencer.visualizer.dataset_meta['classes']) == CLASSES['mask_rcnn']


def test_inference_detector(config_of, checkpoints, folder):
    model = init_detector(config_of('mask_rcnn'), checkpoints['mask_rcnn'], device='cpu')
    kinds = kinds_of_input(folder)
    alone = inference_detector(model, kinds['path'])
    both = inference_detector(model, kinds['list'])
    # The array comes last, because mmdet's function then changes the config of the model.
    array = inference_detector(model, kinds['array'])
    assert len(both) == 2
    for found in (both[0], array):
        assert torch.equal(found.pred_instances.scores, alone.pred_instances.scores)


def test_seg_inferencer(config_of, checkpoints, folder, tmp_path):
    inferencer = MMSegInferencer(config_of('upernet'), checkpoints['upernet'], device='cpu')
    found = {}
    for kind, images in kinds_of_input(folder).items():
        out = tmp_path / kind
        found[kind] = inferencer(images, out_dir=str(out))['predictions']
        count = 2 if kind in ('list', 'folder') else 1
        assert len([*(out / 'vis').iterdir()]) == len([*(out / 'pred').iterdir()]) == count
    assert np.array_equal(found['path'], found['array'])
    assert np.array_equal(found['path'], found['list'][0])
    assert np.shape(found['path']) == (64, 80)
    assert list(inferencer.model.dataset_meta['classes']) == CLASSES['upernet']


def test_inference_model(config_of, checkpoints, folder):
    model = init_model(config_of('upernet'), checkpoints['upernet'], device='cpu')
    kinds = kinds_of_input(folder)
    alone = inference_model(model, kinds['path'])
    both = inference_model(model, kinds['list'])
    array = inference_model(model, kinds['array'])
    assert len(both) == 2
    for found in (both[0], array):
        assert torch.equal(found.pred_sem_seg.data, alone.pred_sem_seg.data)
    assert list(model.dataset_meta['classes']) == CLASSES['upernet']
