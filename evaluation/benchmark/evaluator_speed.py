"""Duration of each implementation of COCO's evaluation, and differences between their results."""

import contextlib
import copy
import gc
import io
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO

from evaluation.metrics.average_precision.detections import KINDS, to_coco
from evaluation.metrics.average_precision.evaluation import InstanceEvaluation, InstanceEvaluator
from evaluation.metrics.average_precision.evaluators import EVALUATORS, load_evaluator
from evaluation.metrics.average_precision.generated_problem import Problem
from evaluation.utils.process_memory import garbage_collection_paused
from evaluation.utils.text_tables import Cell, Column, Table, to_markdown

REFERENCE = 'pycocotools'


@dataclass(frozen=True)
class EvaluatorTimes:
    """Durations of evaluators and differences of their results.

    Attributes:
        title: size of the problem, in words.
        seconds: median processor time of an evaluation, by evaluator and kind of overlap.
        differences: for each evaluator, the largest difference of a statistic or a precision from the
            reference, as a fraction.
    """

    title: str
    seconds: dict[str, dict[str, float]]
    differences: dict[str, float]


def compare_evaluators(
    problem: Problem, repeats: int, say: Callable[[str], None] = lambda message: None
) -> EvaluatorTimes:
    """Evaluate a problem by each evaluator in turn, several times.

    The time covers what `InstanceMetric` asks of an evaluator: reading detections, matching,
    accumulating and summarizing, in this process. Each run has its own objects.

    Args:
        problem: to evaluate.
        repeats: runs of each evaluator; if odd, the median is one of the measured times.
        say: receives progress messages.
    """
    evaluators = {name: load_evaluator(name) for name in EVALUATORS}
    seconds: dict[str, dict[str, list[float]]] = {
        name: {kind: [] for kind in KINDS} for name in EVALUATORS
    }
    differences = dict.fromkeys(EVALUATORS, 0.0)
    for repeat in range(repeats):
        for kind in KINDS:
            results = {}
            for name, evaluator in evaluators.items():
                results[name], taken = timed_evaluation(evaluator, problem, kind)
                seconds[name][kind].append(taken)
                say(f'run {repeat + 1} of {repeats}, {KINDS[kind]} AP by {name}: {taken:.1f} s')
            for name, result in results.items():
                difference = largest_difference(result, results[REFERENCE])
                differences[name] = max(differences[name], difference)
    medians = {
        name: {kind: statistics.median(taken) for kind, taken in by_kind.items()}
        for name, by_kind in seconds.items()
    }
    return EvaluatorTimes(describe(problem), medians, differences)


def timed_evaluation(
    evaluator: InstanceEvaluator, problem: Problem, kind: str
) -> tuple[InstanceEvaluation, float]:
    """Return the result of one evaluation and its processor time in seconds."""
    truth = COCO()
    truth.dataset = copy.deepcopy(problem.truth)
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    categories = [category['id'] for category in problem.truth['categories']]
    images = [prediction['img_id'] for prediction in problem.predictions]
    detections = to_coco(problem.predictions, categories, kind)
    gc.collect()
    with garbage_collection_paused():
        # Evaluation is one thread without I/O; processor time excludes other processes.
        started = time.process_time()
        result = evaluator(truth, detections, images, categories, kind)
        return result, time.process_time() - started


def largest_difference(one: InstanceEvaluation, other: InstanceEvaluation) -> float:
    """Return the largest absolute difference of a statistic or a precision, as a fraction."""
    pairs = ((one.statistics, other.statistics), (one.precision, other.precision))
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def describe(problem: Problem) -> str:
    """Return the size of a problem in words."""
    detections = sum(len(prediction['labels']) for prediction in problem.predictions)
    objects, classes = len(problem.truth['annotations']), len(problem.truth['categories'])
    return (
        f'COCO evaluation of {detections:,} detections on {len(problem.predictions):,} images '
        f'with {objects:,} objects of {classes} classes'
    )


def render_comparison(comparison: EvaluatorTimes, repeats: int) -> str:
    """Render the figures as Markdown."""
    columns = [Column('Evaluator', 'Evaluator', numeric=False)]
    headings = [
        *(f'{name} (s)' for name in KINDS.values()),
        'both (s)',
        'times faster',
        'largest difference',
    ]
    columns += [Column(heading, heading) for heading in headings]
    totals = {name: sum(by_kind.values()) for name, by_kind in comparison.seconds.items()}
    rows = tuple(
        (
            Cell(name),
            *(Cell(f'{taken:.2f}') for taken in by_kind.values()),
            Cell(f'{totals[name]:.2f}'),
            Cell(f'{totals[REFERENCE] / totals[name]:.1f}'),
            Cell(f'{comparison.differences[name]:.1e}'),
        )
        for name, by_kind in comparison.seconds.items()
    )
    notes = (
        f'Processor time, medians of {repeats} runs in turn, reading of detections included. Difference '
        f"from {REFERENCE}': of all statistics and precisions, as fractions.",
    )
    return to_markdown(Table(comparison.title, tuple(columns), (rows,), notes))
