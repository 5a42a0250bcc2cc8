"""Time each implementation of COCO's evaluation on a generated problem, and compare their results.

The statistics of the problem follow COCO val2017, without images or a detector: image sizes, seven
objects of three classes per image, areas from 20 pixels to most of the image, two dozen corners per
outline, one crowd in eighty objects. Detections are objects found with errors of varying size, some
with a wrong class, and false positives; scores decrease with the error.
"""

import contextlib
import copy
import gc
import io
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from evaluation.metrics.coco_evaluators import (
    EVALUATORS,
    InstanceEvaluation,
    InstanceEvaluator,
    load_evaluator,
)
from evaluation.metrics.coco_matching import KINDS, to_coco
from evaluation.utils.process_memory import garbage_collection_paused
from evaluation.utils.text_tables import Cell, Column, Table, to_markdown

# Height and width in pixels.
IMAGE_SIZES = ((480, 640), (427, 640), (640, 480), (640, 427), (375, 500))
OBJECTS_PER_IMAGE = 7.3
CLASSES_PER_IMAGE = 3
CROWD_SHARE = 0.0125
CORNERS = 24
# Mean and standard deviation of the natural logarithm of areas in square pixels.
LOG_AREA = (7.6, 2.1)
SMALLEST_AREA = 20.0
# As a fraction of the image.
LARGEST_AREA = 0.6
REFERENCE = 'pycocotools'


@dataclass(frozen=True)
class Problem:
    """Input of an evaluation.

    Attributes:
        truth: ground truth in COCO's format.
        predictions: one entry per image, as `InstanceMetric` collects them: `img_id`, `bboxes` (N, 4)
            as corners in pixels, `scores` (N,), `labels` (N,) and run-length encoded `masks`.
    """

    truth: dict
    predictions: list[dict]


@dataclass(frozen=True)
class Outlines:
    """Closed outlines of N objects.

    Attributes:
        centers: (N, 2), x and y in pixels.
        sides: (N, 2), half width and half height in pixels.
        radii: (N, CORNERS), distance of each corner from the center, relative to the ellipse.
    """

    centers: np.ndarray
    sides: np.ndarray
    radii: np.ndarray

    def corners(self, size: tuple[int, int]) -> np.ndarray:
        """Return the corners (N, CORNERS, 2), x and y in pixels, clipped to an image of `size`."""
        angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
        ellipse = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        points = self.centers[:, None] + self.sides[:, None] * self.radii[..., None] * ellipse
        return points.clip(0, size[::-1])


def generate_problem(images: int, detections: int, classes: int, seed: int) -> Problem:
    """Generate ground truth and predictions that depend only on the arguments.

    Args:
        images: number of images.
        detections: number of detections per image.
        classes: number of classes; the first is the most frequent.
        seed: seed of all random numbers.
    """
    random = np.random.default_rng(seed)
    frequencies = 1 / (3 + np.arange(classes))
    frequencies /= frequencies.sum()
    entries, annotations, predictions = [], [], []
    for image in range(1, images + 1):
        size = IMAGE_SIZES[random.integers(len(IMAGE_SIZES))]
        entries.append({'id': image, 'height': size[0], 'width': size[1], 'file_name': f'{image}.jpg'})
        outlines, labels = _objects(random, size, frequencies)
        for annotation in _annotations(random, outlines, labels, size):
            annotations.append({'id': len(annotations) + 1, 'image_id': image, **annotation})
        found = _predictions(random, outlines, labels, size, detections, frequencies)
        predictions.append({'img_id': image, **found})
    categories = [{'id': label + 1, 'name': f'class {label + 1}'} for label in range(classes)]
    return Problem(
        {'images': entries, 'categories': categories, 'annotations': annotations}, predictions
    )


def _objects(
    random: Generator, size: tuple[int, int], frequencies: np.ndarray
) -> tuple[Outlines, np.ndarray]:
    """Return outlines and labels (N,) of an image's objects; N can be 0."""
    number = random.geometric(1 / (1 + OBJECTS_PER_IMAGE)) - 1
    present = random.choice(len(frequencies), CLASSES_PER_IMAGE, p=frequencies)
    return _outlines(random, number, size), random.choice(present, number)


def _outlines(random: Generator, number: int, size: tuple[int, int]) -> Outlines:
    areas = np.exp(random.normal(*LOG_AREA, number)).clip(SMALLEST_AREA, LARGEST_AREA * np.prod(size))
    stretch = np.exp(random.normal(0, 0.35, number))
    side = np.sqrt(areas / np.pi)
    centers = random.uniform(0, 1, (number, 2)) * size[::-1]
    radii = random.uniform(0.7, 1.3, (number, CORNERS))
    return Outlines(centers, np.stack([side * stretch, side / stretch], axis=-1), radii)


def _annotations(
    random: Generator, outlines: Outlines, labels: np.ndarray, size: tuple[int, int]
) -> list[dict]:
    """Return annotations without ids, as polygons or, for crowds, run-length codes; skip empty ones."""
    found = []
    for corners, label in zip(outlines.corners(size).round(2), labels.tolist(), strict=True):
        code = _encode(corners, size)
        area = int(coco_mask.area(code))
        if not area:
            continue
        is_crowd = random.random() < CROWD_SHARE
        polygons = [corners.ravel().tolist()]
        low, high = corners.min(0), corners.max(0)
        found.append(
            {
                'category_id': label + 1,
                'bbox': [*low.tolist(), *(high - low).tolist()],
                'area': float(area),
                'iscrowd': int(is_crowd),
                'segmentation': {**code, 'counts': code['counts'].decode()} if is_crowd else polygons,
            }
        )
    return found


def _predictions(
    random: Generator,
    outlines: Outlines,
    labels: np.ndarray,
    size: tuple[int, int],
    number: int,
    frequencies: np.ndarray,
) -> dict:
    """Return the predictions of an image: three in four near an object, if any, the others anywhere."""
    alarms, error = _outlines(random, number, size), np.full(number, 1.0)
    found_labels = random.choice(len(frequencies), number, p=frequencies)
    near = np.flatnonzero(random.random(number) < 0.75) if len(labels) else np.arange(0)
    source = random.integers(max(len(labels), 1), size=len(near))
    # Most errors are small, a few are large.
    error[near] = random.beta(1, 3, len(near))
    misfit = 0.5 * error[near, None]
    sides = outlines.sides[source] * np.exp(random.normal(0, misfit, (len(near), 2)))
    alarms.sides[near] = sides
    alarms.centers[near] = outlines.centers[source] + sides * random.normal(0, misfit, (len(near), 2))
    alarms.radii[near] = outlines.radii[source] * np.exp(
        random.normal(0, 0.3 * misfit, (len(near), CORNERS))
    )
    right = random.random(len(near)) < 0.6
    found_labels[near[right]] = labels[source[right]]
    corners = alarms.corners(size)
    scores = random.beta(1, 1 + 8 * error) if number else np.zeros(0)
    order = np.argsort(-scores)
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1) if number else np.zeros((0, 4))
    return {
        'bboxes': boxes[order].astype(np.float32),
        'scores': scores[order].astype(np.float32),
        'labels': found_labels[order],
        'masks': [_encode(outline, size) for outline in corners[order]],
    }


def _encode(corners: np.ndarray, size: tuple[int, int]) -> dict:
    """Return the run-length code of a polygon, (CORNERS, 2), in an image of `size`."""
    return coco_mask.frPyObjects([corners.ravel().tolist()], *size)[0]


@dataclass(frozen=True)
class EvaluatorTimes:
    """Durations of evaluators and differences of their results.

    Attributes:
        title: size of the problem, in words.
        seconds: median CPU time of an evaluation, by evaluator and kind of overlap.
        differences: for each evaluator, the largest difference of a statistic or a precision from the
            reference, as a fraction.
    """

    title: str
    seconds: dict[str, dict[str, float]]
    differences: dict[str, float]


def compare_evaluators(
    problem: Problem, repeats: int, say: Callable[[str], None] = lambda message: None
) -> EvaluatorTimes:
    """Evaluate a problem with each evaluator in turn, several times.

    The time covers the work of an evaluator for `InstanceMetric`: reading detections, matching,
    accumulating and summarizing, in this process. Each run has its own objects.

    Args:
        problem: problem to evaluate.
        repeats: runs of each evaluator; if odd, the median is one of the measured times.
        say: called with progress messages.
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
                say(f'run {repeat + 1} of {repeats}, {KINDS[kind]} AP with {name}: {taken:.1f} s')
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
    """Return the result of one evaluation and its CPU time in seconds."""
    truth = COCO()
    truth.dataset = copy.deepcopy(problem.truth)
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    categories = [category['id'] for category in problem.truth['categories']]
    images = [prediction['img_id'] for prediction in problem.predictions]
    detections = to_coco(problem.predictions, categories, kind)
    gc.collect()
    with garbage_collection_paused():
        # Evaluation is single-threaded and does no I/O; CPU time excludes other processes.
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
        f'CPU time, medians of {repeats} runs in turn, including reading of detections. Differences '
        f'from {REFERENCE}: over all statistics and precisions, as fractions.',
    )
    return to_markdown(Table(comparison.title, tuple(columns), (rows,), notes))
