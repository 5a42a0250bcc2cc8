"""Losses of the three tasks: values, gradients, and absence of side effects."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData

import backbones  # noqa: F401  (before mmdet, which needs its operators)
from evaluation.analysis.robustness.attack_losses import (
    classification_loss,
    instance_loss,
    segmentation_loss,
)
from evaluation.analysis.robustness.attacks import fgsm, losses, pgd, random_start, slope
from evaluation.engine.trained_model import build_model, read_analyzed_config
from evaluation.metrics.class_metrics import IGNORED
from evaluation.utils.random_state import seeded
from tests.commands import ROOT

from mmdet.structures import DetDataSample  # isort: skip
from mmdet.structures.mask import BitmapMasks  # isort: skip


SMALL = {'model.backbone.dims': [16, 32, 64, 128], 'model.backbone.depths': [1, 1, 1, 1]}
OPTIONS = {
    'imagenet_convnext_micro': {'model.backbone.drop_path_rate': 0.5},
    'upernet_convnext_micro': {
        'model.decode_head.in_channels': [16, 32, 64, 128],
        'model.auxiliary_head.in_channels': 64,
    },
    'mask_rcnn_convnext_micro': {'model.neck.in_channels': [16, 32, 64, 128]},
}


@pytest.fixture(scope='module')
def model_of():
    """Builder of models with random weights and random means of batch norms."""

    def build(name):
        options = {**SMALL, **OPTIONS[name]}
        cfg = read_analyzed_config(str(ROOT / f'configs/demo/{name}.py'), options)
        model = build_model(cfg, None, 0, torch.device('cpu'))
        with seeded(1):
            for buffer_name, buffer in model.named_buffers():
                if buffer_name.endswith('running_mean'):
                    buffer.normal_(std=0.1)
        return model

    return build


def pictures(count, height=64, width=64):
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator).float()


def instances(height, width):
    masks = np.zeros((2, height, width), np.uint8)
    masks[0, 5:30, 8:40] = 1
    masks[1, 30:60, 20:50] = 1
    return InstanceData(
        bboxes=np.array([[8, 5, 40, 30], [20, 30, 50, 60]], np.float32),
        labels=np.array([1, 4]),
        masks=masks,
    )


def nothing():
    return InstanceData(
        bboxes=np.zeros((0, 4), np.float32),
        labels=np.zeros(0, np.int64),
        masks=np.zeros((0, 64, 64), np.uint8),
    )


def prepared(name, model):
    """Return loss and images for a model."""
    images = pictures(2)
    if name.startswith('imagenet'):
        return classification_loss(model, torch.tensor([3, 0])), images
    if name.startswith('upernet'):
        maps = torch.randint(0, 8, (2, 64, 64), generator=torch.Generator().manual_seed(2))
        maps[:, :10] = IGNORED
        return segmentation_loss(model, maps), images
    return instance_loss(model, [instances(64, 64), nothing()], [(0, 0), (0, 1)]), images


@pytest.mark.parametrize('name', OPTIONS)
class TestAny:
    def test_does_not_change_the_model(self, model_of, name):
        model = model_of(name)
        before = copy.deepcopy(model.state_dict())
        loss, images = prepared(name, model)
        slope(loss, images)
        after = model.state_dict()
        assert all(torch.equal(value, after[key]) for key, value in before.items())
        assert not model.training
        assert all(parameter.grad is None for parameter in model.parameters())

    def test_is_deterministic(self, model_of, name):
        loss, images = prepared(name, model_of(name))
        first = slope(loss, images)
        torch.rand(3)
        np.random.rand(3)
        again = slope(loss, images)
        assert torch.equal(first.values, again.values)
        assert torch.equal(first.gradient, again.gradient)
        assert torch.equal(losses(loss, images), first.values)

    def test_gradient_with_respect_to_pixels(self, model_of, name):
        """Finite differences: normalization and channel order are part of the graph."""
        if name.startswith('mask_rcnn'):
            pytest.skip('proposals change abruptly, so the loss is only piecewise smooth')
        loss, images = prepared(name, model_of(name))
        here = slope(loss, images)
        direction = here.gradient / here.gradient.square().sum((1, 2, 3), keepdim=True).sqrt()
        ahead, behind = (losses(loss, images + sign * 0.5 * direction) for sign in (1, -1))
        expected = here.gradient.square().sum((1, 2, 3)).sqrt()
        assert ahead - behind == pytest.approx(expected, rel=0.05)

    @pytest.mark.parametrize('norm', ['linf', 'l2'])
    def test_attacks_increase_the_loss(self, model_of, name, norm):
        loss, images = prepared(name, model_of(name))
        clean = slope(loss, images)
        radius = torch.full((2,), 4.0 if norm == 'linf' else 200.0, dtype=torch.float64)
        single = losses(loss, fgsm(images, clean.gradient, radius, norm))
        start = random_start([(0, 0), (0, 1)], images.shape[1:], norm)
        changed, values = pgd(loss, images, clean, radius, norm, 4, start)
        assert (single > clean.values).all()
        assert (values >= single).all()
        assert torch.equal(losses(loss, changed), values)


class TestClassification:
    def test_is_cross_entropy_per_image(self, model_of):
        model = model_of('imagenet_convnext_micro')
        loss, images = prepared('imagenet', model)
        logits = model(model.data_preprocessor.normalize(images))
        expected = -logits.log_softmax(1)[[0, 1], [3, 0]]
        torch.testing.assert_close(loss(images), expected)


class TestSegmentation:
    def test_is_the_mean_over_labeled_pixels(self, model_of):
        model = model_of('upernet_convnext_micro')
        loss, images = prepared('upernet', model)
        maps = torch.randint(0, 8, (2, 64, 64), generator=torch.Generator().manual_seed(2))
        normal = model.data_preprocessor.mean, model.data_preprocessor.std
        logits = model.decode_head(model.extract_feat((images.flip(1) - normal[0]) / normal[1]))
        logits = F.interpolate(logits, (64, 64), mode='bilinear', align_corners=False)
        expected = F.cross_entropy(logits[:, :, 10:], maps[:, 10:], reduction='none').mean((1, 2))
        torch.testing.assert_close(loss(images), expected)

    def test_ignored_pixels_do_not_matter(self, model_of):
        model = model_of('upernet_convnext_micro')
        nowhere = segmentation_loss(model, torch.full((1, 64, 64), IGNORED))
        found = slope(nowhere, pictures(1))
        assert found.values.item() == 0
        assert not found.gradient.any()


class TestInstances:
    def test_is_the_training_loss(self, model_of):
        model = model_of('mask_rcnn_convnext_micro')
        images = pictures(1)
        truth = instances(64, 64)
        loss = instance_loss(model, [truth], [(0, 7)])
        sample = DetDataSample(metainfo={'img_shape': (64, 64), 'scale_factor': (1.0, 1.0)})
        sample.gt_instances = InstanceData(
            bboxes=torch.from_numpy(truth.bboxes),
            labels=torch.from_numpy(truth.labels),
            masks=BitmapMasks(truth.masks, 64, 64),
        )
        data = {'inputs': [images[0]], 'data_samples': [sample]}
        data = model.data_preprocessor(data, training=True)
        with seeded(0, 7):
            parts = model.loss(data['inputs'], data['data_samples'])
        names = ('loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask')
        values = [value for name in names for value in np.atleast_1d(parts[name])]
        assert losses(loss, images).item() == pytest.approx(float(sum(values)), rel=1e-6)

    def test_does_not_depend_on_the_batch(self, model_of):
        model = model_of('mask_rcnn_convnext_micro')
        loss, images = prepared('mask_rcnn', model)
        alone = instance_loss(model, [nothing()], [(0, 1)])
        assert torch.equal(losses(loss, images)[1:], losses(alone, images[1:]))

    def test_padded_image(self, model_of):
        model = model_of('mask_rcnn_convnext_micro')
        loss = instance_loss(model, [instances(70, 90)], [(0, 0)])
        found = slope(loss, pictures(1, 70, 90))
        assert found.gradient.shape == (1, 3, 70, 90)
        assert found.gradient.any()
