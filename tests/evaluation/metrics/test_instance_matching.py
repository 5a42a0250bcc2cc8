"""Error categories and their costs on predictions that are made with a known mix of errors."""

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
    """Overlaps are given, so that every border can be tried."""

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
    def test_of_a_wrong_detection(self, own, other, expected):
        no = np.zeros(1, bool)
        errors, targets = classify_errors(np.array([[own, other]]), [0], [0, 1], no)
        assert ERRORS[errors[0]] == expected
        assert targets[0] == {'localisation': 0, 'classification': 1}.get(expected, -1)

    def test_a_right_detection_has_none(self):
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
    """Evidence of images, each a list of (class, box) objects and of (class, box, score) detections.

    Args:
        images: the objects and detections of each.
        crowds: numbers of the objects that are crowds, over all images.
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
# An image each: what is there, what is found, the error.
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
    # What is found under another class and elsewhere leaves its object missed.
    expected = {**mix, 'missed': mix['missed'] + mix['both']}
    assert error_counts(evidence_of(images), kind) == expected


class TestCosts:
    """Of one class, so that the costs follow by hand: half of the objects is 51 of 101 recalls."""

    def test_of_a_classification_error(self):
        """Half of the cats are called dogs: AP 51/101 of cats, none of dogs, which are not there."""
        found = costs(evidence_of([GOOD, FAULTY['classification']]))
        assert found['classification'] == pytest.approx(100 * (1 - 51 / 101))
        assert found['localisation'] == found['duplicate'] == found['missed'] == 0
        assert found['false negatives'] == pytest.approx(100 * (1 - 51 / 101))
        assert found['false positives'] == 0

    def test_of_a_localisation_error(self):
        found = costs(evidence_of([GOOD, FAULTY['localisation']]))
        assert found['localisation'] == pytest.approx(100 * (1 - 51 / 101))
        assert found['classification'] == found['both'] == found['missed'] == 0

    def test_of_a_missed_object(self):
        found = costs(evidence_of([FAULTY['missed']]))
        assert found['missed'] == pytest.approx(100 * (1 - 51 / 101))
        assert found['false negatives'] == pytest.approx(found['missed'])
        assert found['false positives'] == 0

    def test_of_a_false_alarm_that_comes_first(self):
        """One right at rank two: precision one half at every recall."""
        found = costs(evidence_of([FAULTY['background']]))
        assert found['background'] == pytest.approx(50)
        assert found['false positives'] == pytest.approx(50)

    def test_of_a_duplicate(self):
        """Two objects, a duplicate between them: precision 1 up to one half, then 2/3."""
        objects = [(0, box(0)), (0, box(100))]
        detections = [(0, box(0), 0.9), (0, box(0), 0.8), (0, box(100), 0.7)]
        found = costs(evidence_of([(objects, detections)]))
        assert found['duplicate'] == pytest.approx(100 * (1 - (51 + 50 * 2 / 3) / 101))

    def test_an_object_that_is_found_anyway_is_not_found_twice(self):
        """Mending the localisation of a second detection leaves it out: it cost nothing before."""
        images = [([(0, box(0))], [(0, box(0), 0.9), (0, box(10), 0.8)])]
        assert costs(evidence_of(images))['localisation'] == pytest.approx(0)

    def test_of_two_that_meet_the_same_object_the_better_is_mended(self):
        images = [([(0, box(0))], [(0, box(10), 0.9), (0, box(10), 0.8)])]
        assert costs(evidence_of(images))['localisation'] == pytest.approx(100)

    def test_an_object_is_worth_one_fix_over_classification_and_localisation(self):
        """The better detection has the wrong class: fixing where the other is gains nothing."""
        images = [([(0, box(0))], [(1, box(0), 0.9), (0, box(10), 0.8)])]
        found = costs(evidence_of(images))
        assert found['classification'] == pytest.approx(100)
        assert found['localisation'] == 0

    def test_a_class_that_loses_its_last_object_counts_with_its_detections(self):
        """The dog is missed, so not counting it leaves dogs with a detection alone: an AP of 0."""
        images = [GOOD, ([(1, box(0))], [(1, box(100), 0.8)])]
        assert costs(evidence_of(images))['missed'] == 0

    def test_a_class_that_loses_all_is_left_out(self):
        """Without a detection of dogs only cats are left, of which all are found: from 50 to 100."""
        assert costs(evidence_of([GOOD, ([(1, box(0))], [])]))['missed'] == pytest.approx(50)


class TestCrowds:
    """A cat that is found badly stands beside a crowd of cats, in which the detection lies."""

    def evidence(self, detection=(90, 10, 20, 20)):
        objects = [(0, box(100)), (0, (60, 10, 40, 20)), (0, box(0))]
        return evidence_of([(objects, [(0, detection, 0.9), (0, box(0), 0.8)])], crowds=[1])

    def test_a_detection_half_inside_is_ignored_as_by_coco(self):
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

    def test_evidence_of_older_versions_is_read(self):
        """There such detections have no kind, and the cat is missed."""
        evidence = self.evidence()
        old = replace(evidence.matches['box'], errors=evidence.matches['box'].errors.copy())
        old.errors[0] = ERRORS.index('ignored')
        evidence = replace(evidence, matches={'box': old})
        evidence.check()
        assert error_counts(evidence, 'box')['localisation'] == 0
        assert error_counts(evidence, 'box')['missed'] == 1
        assert costs(evidence)['localisation'] == 0
        assert costs(evidence)['missed'] == pytest.approx(100 * (1 - 51 / 101))


def test_no_detection_is_mended_to_an_object_that_does_not_count():
    """One that became right would stand in for the object that is missed."""
    evidence = evidence_of([GOOD, FAULTY['classification'], FAULTY['missed']])
    counts = evidence.object_counts & (evidence.object_image != 1)[:, None]
    assert costs(replace(evidence, object_counts=counts))['classification'] == 0


def test_mending_all_leaves_a_perfect_detector():
    """Without misses and false alarms AP is 100, whatever the problem; no mending of one kind harms."""
    problem = generate_problem(images=30, detections=40, classes=5, seed=0)
    evidence = collect_instances(indexed(problem.truth), problem.predictions, list(range(1, 6)))
    weights = np.ones(30, np.int64)
    for kind in ('box', 'mask'):
        whole = average_precision(evidence, kind)(weights)[f'{kind}_AP50']
        found = error_costs(evidence, kind)(weights)
        assert set(found) == set(CATEGORIES)
        assert all(value > -1e-9 for value in found.values())
        assert all(whole + value < 100 + 1e-9 for value in found.values())
