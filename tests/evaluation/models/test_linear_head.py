"""The linear head compared with loops over pixels, and its evaluation at the size of the labels."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from evaluation.config.contestants import open_config
from evaluation.config.protocols import ProtocolOptions
from evaluation.metrics.class_metrics import SegmentationMetric
from evaluation.models.linear_head import LinearHead
from tests.commands import ROOT

PAGE = ROOT / 'configs/_base_/demo_upernet.py'
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


def resized(image, height, width):
    """Resize (C, H, W) bilinearly, pixel by pixel, with pixel centers at half coordinates."""
    found = np.empty((len(image), height, width))
    for i in range(height):
        for j in range(width):
            rows = weights_of(i, height, image.shape[1])
            columns = weights_of(j, width, image.shape[2])
            found[:, i, j] = sum(a * b * image[:, r, c] for r, a in rows for c, b in columns)
    return found


def weights_of(index, count, available):
    position = max((index + 0.5) * available / count - 0.5, 0)
    low = min(int(position), available - 1)
    return (low, 1 - (position - low)), (min(low + 1, available - 1), position - low)


def oracle(head, maps):
    """Return the logits of a batch of maps, (B, C, H, W) float64 each."""
    height, width = max((m.shape[2:] for m in maps), key=lambda size: size[0] * size[1])
    x = np.stack(
        [np.concatenate([resized(m[b], height, width) for m in maps]) for b in range(len(maps[0]))]
    )
    norm, conv = head.norm, head.conv_seg
    if head.training:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    else:
        mean, variance = norm.running_mean.numpy(), norm.running_var.numpy()
    scale = norm.weight.detach().numpy() / np.sqrt(variance + norm.eps)
    x = (x - mean[:, None, None]) * scale[:, None, None] + norm.bias.detach().numpy()[:, None, None]
    weight = conv.weight.detach().numpy()[:, :, 0, 0]
    return np.einsum('kc,bchw->bkhw', weight, x) + conv.bias.detach().numpy()[:, None, None]


@settings(max_examples=25, deadline=None)
@given(st.lists(sizes, min_size=1, max_size=4), st.booleans())
def test_equals_loops_over_pixels(shapes, is_training):
    torch.manual_seed(0)
    channels = range(1, len(shapes) + 1)
    head = LinearHead(list(channels), num_classes=3, in_index=list(range(len(shapes)))).double()
    for value in (*head.parameters(), head.norm.running_mean):
        torch.nn.init.normal_(value)
    torch.nn.init.uniform_(head.norm.running_var, 0.5, 2)
    head.train(is_training)
    maps = [torch.randn(2, c, *s, dtype=torch.float64) for c, s in zip(channels, shapes, strict=True)]
    expected = oracle(head, [each.numpy() for each in maps])
    np.testing.assert_allclose(head(maps).detach().numpy(), expected, rtol=1e-7, atol=1e-7)


def test_takes_only_the_maps_of_its_index():
    head = LinearHead([2, 3], num_classes=4, in_index=[1, 3]).eval()
    maps = [torch.randn(1, c, 4, 4) for c in (7, 2, 9, 3)]
    torch.testing.assert_close(head(maps), head([maps[0] * 2, maps[1], maps[2] * 2, maps[3]]))


@pytest.fixture
def segmentor():
    cfg = open_config(str(PAGE), 'pool_micro', {}, ProtocolOptions('linear'))[0]
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(cfg.model).eval()


@pytest.mark.parametrize('labels_size', [(37, 53), (128, 200), (301, 97)])
def test_every_pixel_of_the_labels_is_evaluated(segmentor, labels_size):
    """Also if the network sees a smaller or larger image, whose maps are a quarter of its sides."""
    labels = torch.arange(labels_size[0] * labels_size[1]).reshape(1, *labels_size) % 8
    facts = dict(img_shape=(64, 96), ori_shape=labels_size, img_path='a.jpg', pad_shape=(64, 96))
    sample = SegDataSample(metainfo=facts, gt_sem_seg=PixelData(data=labels))
    batch = {'inputs': [torch.randint(0, 256, (3, 64, 96)).byte()], 'data_samples': [sample]}
    with torch.no_grad():
        (predicted,) = segmentor.test_step(batch)
    assert predicted.pred_sem_seg.shape == labels_size
    metric = SegmentationMetric()
    metric.dataset_meta = {'classes': [*'abcdefgh']}
    metric.process({}, [predicted.to_dict()])
    found = metric.evaluate(1)
    right = (predicted.pred_sem_seg.data == labels).double().mean().item()
    assert found['aAcc'] == pytest.approx(100 * right)
    assert metric.report.evidence.pixels.sum() == labels.numel()


def test_classes_are_decided_at_the_size_of_the_labels(segmentor):
    """Logits are resized to the image and to the labels, and only then compared."""
    facts = dict(img_shape=(32, 32), ori_shape=(37, 53), img_path='a.jpg', pad_shape=(32, 32))
    image = torch.randint(0, 256, (3, 32, 32)).byte()
    batch = {'inputs': [image], 'data_samples': [SegDataSample(metainfo=facts)]}
    with torch.no_grad():
        (predicted,) = segmentor.test_step(batch)
        images = segmentor.data_preprocessor(batch)['inputs']
        logits = segmentor.decode_head(segmentor.backbone(images))[0].double().numpy()
    assert logits.shape == (8, 8, 8)
    expected = resized(resized(logits, 32, 32), 37, 53)
    np.testing.assert_allclose(predicted.seg_logits.data.numpy(), expected, rtol=1e-3, atol=1e-4)
    assert (predicted.pred_sem_seg.data[0].numpy() == expected.argmax(0)).mean() > 0.99
