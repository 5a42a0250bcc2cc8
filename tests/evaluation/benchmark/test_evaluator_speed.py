"""Times and differences of evaluators."""

import dataclasses

import numpy as np
import pytest

from evaluation.benchmark import evaluator_speed
from evaluation.benchmark.evaluator_speed import (
    EvaluatorTimes,
    compare_evaluators,
    largest_difference,
    render_comparison,
    timed_evaluation,
)
from evaluation.metrics.average_precision.evaluators import EVALUATORS, load_evaluator
from evaluation.metrics.average_precision.generated_problem import generate_problem


@pytest.fixture(scope='module')
def problem():
    return generate_problem(images=6, detections=10, classes=4, seed=0)


def test_evaluators_agree_and_are_timed_in_turn(problem):
    said = []
    comparison = compare_evaluators(problem, repeats=2, say=said.append)
    assert comparison.seconds.keys() == comparison.differences.keys() == EVALUATORS.keys()
    for by_kind in comparison.seconds.values():
        assert by_kind.keys() == {'bbox', 'segm'}
        assert all(taken > 0 for taken in by_kind.values())
    assert comparison.differences['pycocotools'] == 0
    assert comparison.differences['fast'] <= 1e-9
    order = [line.split(' by ')[1].split(':')[0] for line in said]
    assert order == ['pycocotools', 'fast'] * 4
    objects = len(problem.truth['annotations'])
    assert comparison.title == (
        f'COCO evaluation of 60 detections on 6 images with {objects} objects of 4 classes'
    )


def test_an_evaluator_that_errs_shows(problem, monkeypatch):
    """What is compared are the figures of both, not one with itself."""

    def load(name):
        evaluate = load_evaluator(name)
        if name == 'pycocotools':
            return evaluate

        def err(*arguments):
            result = evaluate(*arguments)
            precision = result.precision.copy()
            precision[3, 50, 2, 0, 1] += 0.25
            return dataclasses.replace(result, precision=precision)

        return err

    monkeypatch.setattr(evaluator_speed, 'load_evaluator', load)
    assert compare_evaluators(problem, repeats=1).differences['fast'] == pytest.approx(0.25)


def test_difference_is_of_statistics_too(problem):
    result, _ = timed_evaluation(load_evaluator('fast'), problem, 'bbox')
    other = dataclasses.replace(result, statistics=result.statistics - np.eye(12)[11] / 8)
    assert largest_difference(result, other) == pytest.approx(0.125)


def test_table():
    comparison = EvaluatorTimes(
        'Some problem',
        {'pycocotools': {'bbox': 8.0, 'segm': 10.0}, 'fast': {'bbox': 1.0, 'segm': 3.0}},
        {'pycocotools': 0.0, 'fast': 2.5e-16},
    )
    lines = render_comparison(comparison, repeats=3).splitlines()
    assert lines[0] == '### Some problem'
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines if line[:1] == '|']
    assert rows[0][1:] == ['box (s)', 'mask (s)', 'both (s)', 'times faster', 'largest difference']
    assert rows[2:] == [
        ['pycocotools', '8.00', '10.00', '18.00', '1.0', '0.0e+00'],
        ['fast', '1.00', '3.00', '4.00', '4.5', '2.5e-16'],
    ]
    assert 'medians of 3 runs' in lines[-1]
