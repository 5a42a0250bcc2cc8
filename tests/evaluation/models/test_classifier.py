"""Classifier, preprocessor and metric for ImageNet, compared with explicit formulas."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import nn

from evaluation.engine.experiment import read_config
from evaluation.metrics.class_metrics import AccuracyMetric
from evaluation.models.classifier import ClassificationPreprocessor, ImageClassifier
from evaluation.models.model_weights import check_whole, fit_model
from evaluation.utils.errors import UserError
from tests.backbones.test_parity import CLASSIFIER, TOLERANCE, assert_probe, parse
from tests.data.fill import image
from tests.released import classifier_shapes, filled
from tests.variants import ROOT

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


@MODELS.register_module(force=True)
class LinearToy(nn.Module):
    """Logits that are linear in the mean color, so that they show how images were mixed."""

    num_classes = 6

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 6)

    def forward(self, x):
        return self.head(x.mean((2, 3)))


def classifier(**options):
    return ImageClassifier({'type': 'LinearToy'}, **options)


def samples(labels):
    return [BaseDataElement(gt_label=torch.tensor(label)) for label in labels]


@pytest.mark.parametrize('bgr_to_rgb', [True, False])
def test_normalization(bgr_to_rgb):
    images = [torch.randint(0, 256, (3, 8, 9), dtype=torch.uint8) for _ in range(2)]
    preprocessor = ClassificationPreprocessor(MEAN, STD, bgr_to_rgb=bgr_to_rgb)
    found = preprocessor({'inputs': images})['inputs']
    for picture, normalized in zip(images, found, strict=True):
        for channel in range(3):
            given = picture[2 - channel if bgr_to_rgb else channel]
            expected = (given.double() - MEAN[channel]) / STD[channel]
            torch.testing.assert_close(normalized[channel].double(), expected, rtol=1e-5, atol=1e-5)


def test_erasing_only_in_training():
    images = torch.full((64, 3, 32, 32), 128, dtype=torch.uint8)
    preprocessor = ClassificationPreprocessor(MEAN, STD, random_erasing=0.5)
    plain = preprocessor({'inputs': images})['inputs']
    assert all(torch.equal(image, plain[0]) for image in plain)
    erased = preprocessor({'inputs': images}, training=True)['inputs']
    changed = (erased != plain).flatten(1).any(1)
    # Binomial: five standard deviations around one half.
    assert 12 <= changed.sum() <= 52
    shares = (erased != plain).any(1).float().mean((1, 2))[changed]
    assert shares.max() < 0.5


def test_loss_without_mixing():
    model = classifier(label_smoothing=0.1)
    x, labels = torch.randn(4, 3, 8, 8), [0, 5, 2, 2]
    found = model(x, samples(labels), mode='loss')['loss']
    log = F.log_softmax(model.backbone(x), 1)
    targets = 0.9 * F.one_hot(torch.tensor(labels), 6) + 0.1 / 6
    torch.testing.assert_close(found, -(targets * log).sum(1).mean())


@pytest.mark.parametrize('kind', ['mixup', 'cutmix'])
def test_loss_of_mixed_images(kind):
    """Images have one color each, so the mean color gives the share of each image and the target."""
    model = classifier(**{kind: 1.0}, label_smoothing=0.1)
    colors = torch.randn(4, 3)
    x, labels = colors.view(4, 3, 1, 1).expand(4, 3, 16, 16).clone(), torch.tensor([0, 5, 2, 3])
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].mean((2, 3))))
    np.random.seed(0)
    found = model.loss(x, labels)
    partner = colors.flip(0)
    share = ((seen[0] - partner) / (colors - partner))[:, :1]
    torch.testing.assert_close(share, share[:1].expand(4, 1), rtol=0, atol=1e-4)
    assert 0 < share[0] < 1
    hot = 0.9 * F.one_hot(labels, 6) + 0.1 / 6
    targets = share * hot + (1 - share) * hot.flip(0)
    expected = -(targets * F.log_softmax(model.backbone.head(seen[0]), 1)).sum(1).mean()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_odd_batch_cannot_be_mixed():
    with pytest.raises(UserError, match='a batch of 3 images cannot be mixed in pairs'):
        classifier(mixup=0.8).loss(torch.randn(3, 3, 8, 8), torch.tensor([0, 1, 2]))


def test_predictions_are_probabilities():
    model = classifier()
    x = torch.randn(2, 3, 8, 8)
    found = model(x, samples([0, 1]), mode='predict')
    scores = torch.stack([sample.pred_scores for sample in found])
    torch.testing.assert_close(scores, model(x).softmax(1))


def test_accuracy_by_hand():
    metric = AccuracyMetric()
    metric.dataset_meta = {'classes': [f'c{i}' for i in range(8)]}
    scores = torch.arange(8.0).softmax(0)  # in this order: 7, 6, 5, 4, 3, then 2
    metric.process({}, [{'gt_label': torch.tensor(n), 'pred_scores': scores} for n in (7, 7, 3, 2)])
    assert metric.evaluate(4) == {'top1': 50.0, 'top5': 75.0}
    assert metric.report.images == 4
    per_class = metric.report.per_class['top1']
    assert (per_class['c7'], per_class['c3'], per_class['c2'], per_class['c0']) == (100, 0, 0, None)


def test_accuracy_with_fewer_than_five_classes():
    metric = AccuracyMetric()
    metric.dataset_meta = {'classes': ['a', 'b']}
    metric.process({}, [{'gt_label': torch.tensor(0), 'pred_scores': torch.tensor([0.2, 0.8])}])
    assert metric.evaluate(1) == {'top1': 0.0, 'top5': 100.0}


# Reference values for swin were computed with noise as masks; see tests/backbones/test_parity.py.
@pytest.mark.parametrize('case', [case for case in CLASSIFIER if not case.startswith('swin')])
def test_released_weights_give_the_published_logits(case):
    """A released file loads completely, as in `tools/test.py`, and gives the released logits."""
    variant, *size = parse(case.replace('_logits', ''))
    model = MODELS.build(read_config(str(ROOT / f'configs/imagenet_{variant}.py')).model).eval()
    fitted, report = fit_model(model, filled(classifier_shapes(variant)), 'released')
    check_whole(model, fitted, report, 'released')
    assert report.backbone.share == 1
    model.load_state_dict(fitted, strict=False)
    with torch.no_grad():
        logits = model(torch.from_numpy(image(*map(int, size))))
    assert_probe(logits, CLASSIFIER[case], TOLERANCE)
