"""Detectors without masks: losses, box AP, test-time augmentation, attacks, analyses."""

import json

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData

import backbones  # noqa: F401  (before mmdet, which needs its operators)
from evaluation.analysis.detectors import Detection, Objects, rectangle
from evaluation.analysis.robustness.attack_losses import check_attackable, instance_loss, instances
from evaluation.metrics.instance_ap import InstanceMetric
from evaluation.metrics.predictions import smaller
from evaluation.models.test_time_augmentation import InstanceTTAModel
from evaluation.utils.errors import UserError
from tests.detectors import BOX_DETECTORS, micro_detector

pytestmark = pytest.mark.habits

SIDE = 64
CLASSES = ('disc', 'square')
BOXES = np.array([[8.0, 8.0, 40.0, 40.0], [30.0, 4.0, 60.0, 30.0]])


@pytest.fixture(scope='module', params=BOX_DETECTORS)
def model(request):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        built = MODELS.build(micro_detector(BOX_DETECTORS[request.param], len(CLASSES)))
    built.init_weights()
    return built


def sample(**metainfo):
    size = (SIDE, SIDE)
    facts = dict(img_id=1, img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
    found = DetDataSample(metainfo={**facts, **metainfo})
    found.gt_instances = InstanceData(
        bboxes=torch.tensor(BOXES, dtype=torch.float32), labels=torch.tensor([0, 1])
    )
    return found


def image():
    return torch.randint(0, 256, (3, SIDE, SIDE), generator=torch.Generator().manual_seed(1)).byte()


def batch(model, **metainfo):
    return model.data_preprocessor({'inputs': [image()], 'data_samples': [sample(**metainfo)]})


def test_training_without_masks(model):
    with DefaultScope.overwrite_default_scope('mmdet'):
        loss, _ = model.parse_losses(model.train()(**batch(model), mode='loss'))
    loss.backward()
    assert torch.isfinite(loss)
    assert model.backbone.stages[0][0].mlp.fc1.weight.grad.abs().sum() > 0


@pytest.fixture
def truth(tmp_path):
    """Write annotations with boxes but without `segmentation`."""
    entries = [
        {
            'id': i,
            'image_id': 1,
            'category_id': i,
            'bbox': [left, top, right - left, bottom - top],
            'area': (right - left) * (bottom - top),
            'iscrowd': 0,
        }
        for i, (left, top, right, bottom) in enumerate(BOXES.tolist(), 1)
    ]
    content = {
        'images': [{'id': 1, 'height': SIDE, 'width': SIDE, 'file_name': '1.jpg'}],
        'annotations': entries,
        'categories': [{'id': i, 'name': name} for i, name in enumerate(CLASSES, 1)],
    }
    file = tmp_path / 'instances_val.json'
    file.write_text(json.dumps(content))
    return file


def test_evaluation_uses_only_boxes(model, truth):
    with DefaultScope.overwrite_default_scope('mmdet'), torch.no_grad():
        (found,) = model.eval()(**batch(model), mode='predict')
    metric = InstanceMetric(str(truth))
    metric.dataset_meta = {'classes': CLASSES}
    metric.process({}, [found.to_dict()])
    logged = metric.evaluate(size=1)
    assert {*metric.report.metrics} == {
        f'box_{name}' for name in ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')
    }
    assert {*metric.report.per_class} == {'box_AP'}
    assert {*metric.report.evidence.matches} == {'box'}
    assert not [name for name in logged if 'segm' in name]
    assert 'masks' not in smaller(found.to_dict())['pred_instances']


def test_views_are_merged(model):
    """Merging a view with its mirrored view keeps the positions of detections."""
    with DefaultScope.overwrite_default_scope('mmdet'), torch.no_grad():
        (found,) = model.eval()(**batch(model, flip=False, flip_direction=None), mode='predict')
        mirrored = found.new()
        boxes = found.pred_instances.bboxes.clone()
        boxes[:, [0, 2]] = SIDE - boxes[:, [2, 0]]
        mirrored.pred_instances = InstanceData(**{**dict(found.pred_instances.items()), 'bboxes': boxes})
        mirrored.set_metainfo({'flip': True, 'flip_direction': 'horizontal'})
        merging = InstanceTTAModel(model, 0.5, 10)
        (merged,) = merging.merge_preds([[found, mirrored]])
    assert 0 < len(merged.pred_instances) <= 10
    assert 'masks' not in merged.pred_instances
    distances = (merged.pred_instances.bboxes[:, None] - found.pred_instances.bboxes).abs().sum(-1)
    assert distances.min(1).values.max() < 1e-3


def test_detector_can_be_attacked(model):
    """The training loss has a gradient with respect to pixels, and depends only on the image."""
    check_attackable(Detection(), model)
    truth = Objects(
        (SIDE, SIDE), np.array([0, 1]), BOXES, np.zeros(2, bool), [[rectangle(b)] for b in BOXES]
    )
    loss = instance_loss(model.eval(), [instances(truth)], [[0, 0]])
    pixels = image().float()[None].requires_grad_()
    with DefaultScope.overwrite_default_scope('mmdet'):
        value = loss(pixels)
        value.sum().backward()
        assert loss(pixels.detach()).item() == value.item()
    assert pixels.grad.abs().sum() > 0


def test_analyses_measure_only_boxes(model):
    with DefaultScope.overwrite_default_scope('mmdet'):
        (found,) = Detection().predict(model.eval(), [image().permute(1, 2, 0).numpy()])
    assert found.masks is None
    truth = Objects(
        (SIDE, SIDE), np.array([0, 1]), BOXES, np.zeros(2, bool), [[rectangle(b)] for b in BOXES]
    )
    assert {*Detection().metrics(Detection().measure(found, truth))} == {'box AP', 'box AP50'}


@pytest.mark.parametrize('metric', ['segm', 'proposal', ['segm'], ['bbox', 'proposal']])
def test_unknown_metrics(truth, metric):
    with pytest.raises(UserError, match="give 'bbox', or "):
        InstanceMetric(str(truth), metric=metric)


def test_requested_masks_that_are_not_predicted(truth):
    metric = InstanceMetric(str(truth), metric=['bbox', 'segm'])
    metric.dataset_meta = {'classes': CLASSES}
    found = {'bboxes': torch.zeros(0, 4), 'scores': torch.zeros(0), 'labels': torch.zeros(0).long()}
    metric.process({}, [{'img_id': 1, 'pred_instances': found}])
    with pytest.raises(UserError, match='predicts no masks'):
        metric.evaluate(size=1)
