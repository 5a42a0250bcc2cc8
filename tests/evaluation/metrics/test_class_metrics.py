"""`SegmentationMetric` compared with a confusion matrix counted pixel by pixel."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from evaluation.metrics.class_metrics import SegmentationMetric, count_areas

CLASSES = ('wall', 'sky', 'tree', 'road')
IGNORED = 255


def measure(pairs, classes=CLASSES):
    """Return report and log for predicted and true label maps, one pair per image."""
    metric = SegmentationMetric()
    metric.dataset_meta = {'classes': classes}
    for predicted, true in pairs:
        sample = {
            'pred_sem_seg': {'data': torch.from_numpy(predicted.astype(np.int64))[None]},
            'gt_sem_seg': {'data': torch.from_numpy(true.astype(np.uint8))[None]},
        }
        metric.process({}, [sample])
    logged = metric.evaluate(size=len(pairs))
    return metric.report, logged


def confusion(pairs):
    """Return pixel counts by true and predicted class over all images, without ignored pixels."""
    counts = [[0] * len(CLASSES) for _ in CLASSES]
    for predicted, true in pairs:
        for p, t in zip(predicted.ravel().tolist(), true.ravel().tolist(), strict=True):
            if t != IGNORED:
                counts[t][p] += 1
    return counts


def percent(part, whole):
    return 100 * part / whole if whole else None


def mean(values):
    known = [value for value in values if value is not None]
    return sum(known) / len(known)


def expected(pairs):
    counts = confusion(pairs)
    numbers = range(len(CLASSES))
    true = [sum(counts[i]) for i in numbers]
    predicted = [sum(row[i] for row in counts) for i in numbers]
    iou = [percent(counts[i][i], true[i] + predicted[i] - counts[i][i]) for i in numbers]
    accuracy = [percent(counts[i][i], true[i]) for i in numbers]
    metrics = {
        'mIoU': mean(iou),
        'mAcc': mean(accuracy),
        'aAcc': percent(sum(counts[i][i] for i in numbers), sum(true)),
    }
    return metrics, {
        'IoU': dict(zip(CLASSES, iou, strict=True)),
        'Acc': dict(zip(CLASSES, accuracy, strict=True)),
    }


def close(values):
    return {k: None if v is None else pytest.approx(v, abs=1e-10) for k, v in values.items()}


def maps(labels):
    return arrays.arrays(np.uint8, (5, 6), elements=st.sampled_from(labels))


PAIRS = st.tuples(maps([0, 1, 2, 3]), maps([0, 1, 2, 3, IGNORED]))
# Means must exclude the two classes that never occur.
FEW_PAIRS = st.tuples(maps([0, 1]), maps([1, IGNORED]))


@settings(max_examples=80, deadline=None)
@given(st.lists(PAIRS | FEW_PAIRS, min_size=1, max_size=4))
def test_equals_the_confusion_matrix(pairs):
    if all((true == IGNORED).all() for _, true in pairs):
        return
    report, logged = measure(pairs)
    metrics, per_class = expected(pairs)
    assert report.metrics == close(metrics)
    assert {kind: close(values) for kind, values in per_class.items()} == report.per_class
    assert logged == close(metrics)
    assert report.images == len(pairs)


@settings(max_examples=20, deadline=None)
@given(st.lists(PAIRS, min_size=2, max_size=5), st.randoms())
def test_order_of_the_images_does_not_matter(pairs, random):
    shuffled = list(pairs)
    random.shuffle(shuffled)
    (one, _), (other, _) = measure(pairs), measure(shuffled)
    assert one == other


def test_absent_classes():
    """Never labeled nor predicted: undefined. Only predicted: IoU 0, accuracy undefined."""
    true = np.array([[0, 0, 0, IGNORED]])
    predicted = np.array([[0, 0, 1, 2]])
    report, _ = measure([(predicted, true)])
    two_thirds = pytest.approx(200 / 3, abs=1e-10)
    assert report.per_class['IoU'] == {'wall': two_thirds, 'sky': 0, 'tree': None, 'road': None}
    assert report.per_class['Acc'] == {'wall': two_thirds, 'sky': None, 'tree': None, 'road': None}
    assert report.metrics == {
        'mIoU': pytest.approx(100 / 3, abs=1e-10),
        'mAcc': two_thirds,
        'aAcc': two_thirds,
    }


def test_figures_are_not_rounded():
    true = np.zeros((1, 7))
    predicted = np.array([[0, 0, 0, 1, 1, 1, 1]])
    report, logged = measure([(predicted, true)])
    assert report.metrics['aAcc'] == pytest.approx(300 / 7, abs=1e-12)
    assert logged['aAcc'] == report.metrics['aAcc']


def test_sums_beyond_single_precision_are_exact():
    """2 ** 24 pixels and then one at a time: in single precision the sum would stop growing."""
    metric = SegmentationMetric()
    metric.dataset_meta = {'classes': ('wall', 'sky')}
    many, ones = 2**24, 1000
    metric.results = [('first', np.array([[0, 0, many]]), None)]
    # A thousand images with one wall pixel each, half of them predicted as sky.
    metric.results += [(None, np.array([[0, 0, 1]]), None)] * (ones // 2)
    metric.results += [(None, np.array([[0, 1, 1]]), None)] * (ones // 2)
    metric.evaluate(size=1 + ones)
    accuracy = 100 * (2**24 + 500) / (2**24 + 1000)
    assert metric.report.metrics['aAcc'] == pytest.approx(accuracy, rel=1e-14)
    assert metric.report.per_class['IoU'] == {'wall': pytest.approx(accuracy, rel=1e-14), 'sky': 0}
    assert metric.report.images == 1001


def test_only_ignored_pixels_give_no_figures():
    true = np.full((2, 2), IGNORED)
    report, _ = measure([(np.zeros((2, 2)), true)])
    assert set(report.metrics.values()) == {None}


# Includes labels beyond the four classes, which checks normally refuse.
LABELS = st.sampled_from([0, 1, 2, 3, 4, 200, 254, IGNORED])


class TestAreas:
    @settings(max_examples=100, deadline=None)
    @given(
        arrays.arrays(np.int64, (1, 4, 5), elements=st.integers(0, 6)),
        arrays.arrays(np.int64, (1, 4, 5), elements=LABELS),
        st.sampled_from([torch.uint8, torch.int64]),
    )
    def test_equal_counts_pixel_by_pixel(self, predicted, label, dtype):
        seen = [
            (p, t)
            for p, t in zip(predicted.ravel().tolist(), label.ravel().tolist(), strict=True)
            if t != IGNORED
        ]
        areas = count_areas(torch.from_numpy(predicted), torch.from_numpy(label).to(dtype), 4)
        intersection, union, found, labeled = (area.tolist() for area in areas)
        for number in range(4):
            assert intersection[number] == sum(p == t == number for p, t in seen)
            assert union[number] == sum(number in (p, t) for p, t in seen)
            assert found[number] == sum(p == number for p, _ in seen)
            assert labeled[number] == sum(t == number for _, t in seen)

    def test_maps_are_not_modified(self):
        predicted, label = torch.tensor([[1, 2]]), torch.tensor([[1, 0]], dtype=torch.int32)
        count_areas(predicted, label, 3)
        assert predicted.tolist() == [[1, 2]]
        assert label.tolist() == [[1, 0]]

    def test_exact_and_small_for_any_map_size(self):
        """Areas are integers, four for each class, since they are stored for every image."""
        classes = 150
        predicted = torch.zeros(1, 300, 400, dtype=torch.int64)
        label = torch.zeros(1, 300, 400, dtype=torch.uint8)
        areas = count_areas(predicted, label, classes)
        for area in areas:
            assert area.dtype == torch.int64
            assert area.shape == (classes,)
            assert area[0] == 120000
            assert area.untyped_storage().nbytes() <= 4 * classes * 8

    @pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
    def test_on_a_gpu(self):
        predicted = torch.randint(0, 150, (1, 300, 400))
        label = torch.randint(0, 256, (1, 300, 400))
        expected = count_areas(predicted, label, 150)
        found = count_areas(predicted.cuda(), label.cuda(), 150)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
