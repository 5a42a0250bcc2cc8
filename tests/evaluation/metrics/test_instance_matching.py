"""Error types and their costs for predictions with a known mix of errors."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from evaluation.benchmark.evaluator_speed import generate_problem
from evaluation.metrics.instance_matching import classify_errors, collect_instances
from evaluation.metrics.instance_records import ERRORS, average_precision
from evaluation.statistics.error_analysis import CATEGORIES, error_costs, error_counts
from tests.coco_truth import indexed

SIZE = 200
CLASSES = ('cat', 'dog')


class TestCategories:
    """Overlaps are given explicitly, so that all thresholds are tested."""

    @pytest.mark.parametrize(
        ('own', 'other', 'expected'),
        [
            (0.3, 0.0, 'localisation'),
            (0.1, 0.0, 'localisation'),
            (0.49, 0.9, 'localisation'),
            (0.5, 0.0, 'localisation'),
            (0.5, 0.9, 'localisation'),
            (0.51, 0.0, 'duplicate'),
            (0.0, 0.5, 'classification'),
            (0.05, 0.9, 'classification'),
            (0.9, 0.9, 'classification'),
            (0.7, 0.2, 'duplicate'),
            (0.05, 0.1, 'background'),
            (0.0, 0.0, 'background'),
            (0.0, 0.3, 'both'),
            (0.05, 0.49, 'both'),
        ],
    )
    def test_incorrect_detections(self, own, other, expected):
        no = np.zeros(1, bool)
        errors, targets = classify_errors(np.array([[own, other]]), [0], [0, 1], no)
        assert ERRORS[errors[0]] == expected
        assert targets[0] == {'localisation': 0, 'classification': 1}.get(expected, -1)

    def test_a_correct_detection_has_no_error(self):
        errors, targets = classify_errors(np.ones((1, 1)), [0], [0], np.array([True]))
        assert ERRORS[errors[0]] == 'right'
        assert targets[0] == -1

    def test_images_without_objects_or_detections(self):
        none, one = np.zeros(0, bool), np.zeros(1, bool)
        errors, _ = classify_errors(np.zeros((1, 0)), [0], [], one)
        assert [ERRORS[error] for error in errors] == ['background']
        assert len(classify_errors(np.zeros((0, 2)), [], [0, 1], none)[0]) == 0


def box(left, width=20):
    return (left, 10, width, 20)


def evidence_of(images, crowds=()):
    """Return evidence of images with (class, box) objects and (class, box, score) detections.

    Args:
        images: objects and detections of each image.
        crowds: indices of the objects that are crowds, counted over all images.
    """
    annotations, predictions = [], []
    for number, (objects, detections) in enumerate(images, start=1):
        for label, one in objects:
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': number,
                    'category_id': label + 1,
                    'bbox': list(map(float, one)),
                    'segmentation': code(one),
                    'area': float(one[2] * one[3]),
                    'iscrowd': int(len(annotations) in crowds),
                }
            )
        corners = [(x, y, x + w, y + h) for _, (x, y, w, h), _ in detections]
        predictions.append(
            {
                'img_id': number,
                'bboxes': np.array(corners, np.float32).reshape(-1, 4),
                'scores': np.array([score for *_, score in detections], np.float32),
                'labels': np.array([label for label, *_ in detections], np.int64),
                'masks': [code(one) for _, one, _ in detections],
            }
        )
    truth = {
        'images': [{'id': n, 'height': SIZE, 'width': SIZE} for n in range(1, len(images) + 1)],
        'annotations': annotations,
        'categories': [{'id': i + 1, 'name': name} for i, name in enumerate(CLASSES)],
    }
    return collect_instances(indexed(truth), predictions, [1, 2])


def code(one):
    left, top, width, height = one
    mask = np.zeros((SIZE, SIZE), np.uint8, order='F')
    mask[top : top + height, left : left + width] = 1
    return coco_mask.encode(mask)


def costs(evidence, kind='box'):
    return error_costs(evidence, kind)(np.ones(len(evidence.images), np.int64))


GOOD = ([(0, box(0))], [(0, box(0), 0.9)])
# One image for each error: its objects and its detections.
FAULTY = {
    'classification': ([(0, box(0))], [(1, box(0), 0.8)]),
    'localisation': ([(0, box(0))], [(0, box(10), 0.8)]),
    'both': ([(0, box(0))], [(1, box(10), 0.8)]),
    'duplicate': ([(0, box(0))], [(0, box(0), 0.9), (0, box(0), 0.8)]),
    'background': ([(0, box(0))], [(0, box(0), 0.9), (0, box(100), 0.95)]),
    'missed': ([(0, box(0)), (0, box(100))], [(0, box(0), 0.9)]),
}


@pytest.mark.parametrize('kind', ['box', 'mask'])
@given(mix=st.fixed_dictionaries({name: st.integers(0, 4) for name in FAULTY}))
@settings(max_examples=20, deadline=None)
def test_a_known_mix_of_errors_is_counted(kind, mix):
    images = [GOOD] + [FAULTY[name] for name, count in mix.items() for _ in range(count)]
    # A detection with the wrong class and location leaves its object missed.
    expected = {**mix, 'missed': mix['missed'] + mix['both']}
    assert error_counts(evidence_of(images), kind) == expected


class TestCosts:
    """Costs for one class, computed by hand: half of the objects are 51 of 101 recalls."""

    def test_classification_error(self):
        """Half of the cats are predicted as dogs: AP of cats is 51/101; there are no dogs."""
        found = costs(evidence_of([GOOD, FAULTY['classification']]))
        assert found['classification'] == pytest.approx(100 * (1 - 51 / 101))
        assert found['localisation'] == found['duplicate'] == found['missed'] == 0
        assert found['false negatives'] == pytest.approx(100 * (1 - 51 / 101))
        assert found['false positives'] == 0

    def test_localization_error(self):
        found = costs(evidence_of([GOOD, FAULTY['localisation']]))
        assert found['localisation'] == pytest.approx(100 * (1 - 51 / 101))
        assert found['classification'] == found['both'] == found['missed'] == 0

    def test_missed_object(self):
        found = costs(evidence_of([FAULTY['missed']]))
        assert found['missed'] == pytest.approx(100 * (1 - 51 / 101))
        assert found['false negatives'] == pytest.approx(found['missed'])
        assert found['false positives'] == 0

    def test_false_positive_with_the_highest_score(self):
        """The only correct detection has rank two: precision is 1/2 at every recall."""
        found = costs(evidence_of([FAULTY['background']]))
        assert found['background'] == pytest.approx(50)
        assert found['false positives'] == pytest.approx(50)

    def test_duplicate(self):
        """Two objects with a duplicate in between: precision is 1 up to recall 1/2, then 2/3."""
        objects = [(0, box(0)), (0, box(100))]
        detections = [(0, box(0), 0.9), (0, box(0), 0.8), (0, box(100), 0.7)]
        found = costs(evidence_of([(objects, detections)]))
        assert found['duplicate'] == pytest.approx(100 * (1 - (51 + 50 * 2 / 3) / 101))

    def test_an_object_that_is_already_found_is_not_found_twice(self):
        """Fixing the localization of a second detection removes it, at no gain."""
        images = [([(0, box(0))], [(0, box(0), 0.9), (0, box(10), 0.8)])]
        assert costs(evidence_of(images))['localisation'] == pytest.approx(0)

    def test_only_the_best_detection_of_an_object_is_fixed(self):
        images = [([(0, box(0))], [(0, box(10), 0.9), (0, box(10), 0.8)])]
        assert costs(evidence_of(images))['localisation'] == pytest.approx(100)

    def test_classification_and_localization_share_one_fix_per_object(self):
        """The best detection has the wrong class, so fixing the location of the other gains nothing."""
        images = [([(0, box(0))], [(1, box(0), 0.9), (0, box(10), 0.8)])]
        found = costs(evidence_of(images))
        assert found['classification'] == pytest.approx(100)
        assert found['localisation'] == 0

    def test_a_class_that_loses_its_last_object_counts_with_its_detections(self):
        """Not counting the missed dog leaves dogs with one detection and no objects: AP is 0."""
        images = [GOOD, ([(1, box(0))], [(1, box(100), 0.8)])]
        assert costs(evidence_of(images))['missed'] == 0

    def test_a_class_without_objects_and_detections_is_excluded(self):
        """Without detections of dogs only cats are left, and all are found: AP rises from 50 to 100."""
        assert costs(evidence_of([GOOD, ([(1, box(0))], [])]))['missed'] == pytest.approx(50)


class TestCrowds:
    """A badly localized detection of a cat that lies half inside a crowd of cats next to it."""

    def evidence(self, detection=(90, 10, 20, 20)):
        objects = [(0, box(100)), (0, (60, 10, 40, 20)), (0, box(0))]
        return evidence_of([(objects, [(0, detection, 0.9), (0, box(0), 0.8)])], crowds=[1])

    def test_a_detection_half_inside_a_crowd_is_ignored_as_in_coco(self):
        evidence = self.evidence()
        assert evidence.matches['box'].ignored[0, 0] & 1
        assert average_precision(evidence, 'box')(np.ones(1, np.int64))['box_AP50'] == pytest.approx(
            100 * 51 / 101
        )

    def test_an_ignored_detection_can_be_fixed(self):
        evidence = self.evidence()
        assert error_counts(evidence, 'box')['localisation'] == 1
        assert error_counts(evidence, 'box')['missed'] == 0
        assert costs(evidence)['localisation'] == pytest.approx(100 * (1 - 51 / 101))

    def test_evidence_of_earlier_versions(self):
        """In earlier versions such detections have no error type, and the cat is missed."""
        evidence = self.evidence()
        old = replace(evidence.matches['box'], errors=evidence.matches['box'].errors.copy())
        old.errors[0] = ERRORS.index('ignored')
        evidence = replace(evidence, matches={'box': old})
        evidence.check()
        assert error_counts(evidence, 'box')['localisation'] == 0
        assert error_counts(evidence, 'box')['missed'] == 1
        assert costs(evidence)['localisation'] == 0
        assert costs(evidence)['missed'] == pytest.approx(100 * (1 - 51 / 101))


def test_no_detection_is_fixed_to_match_an_object_that_does_not_count():
    """If it were corrected, the detection would count as finding the missed object."""
    evidence = evidence_of([GOOD, FAULTY['classification'], FAULTY['missed']])
    counts = evidence.object_counts & (evidence.object_image != 1)[:, None]
    assert costs(replace(evidence, object_counts=counts))['classification'] == 0


def test_costs_are_not_negative_and_never_exceed_100():
    """Fixing one type of error never lowers AP50, and never raises it above 100."""
    problem = generate_problem(images=30, detections=40, classes=5, seed=0)
    evidence = collect_instances(indexed(problem.truth), problem.predictions, list(range(1, 6)))
    weights = np.ones(30, np.int64)
    for kind in ('box', 'mask'):
        whole = average_precision(evidence, kind)(weights)[f'{kind}_AP50']
        found = error_costs(evidence, kind)(weights)
        assert set(found) == set(CATEGORIES)
        assert all(value > -1e-9 for value in found.values())
        assert all(whole + value < 100 + 1e-9 for value in found.values())
