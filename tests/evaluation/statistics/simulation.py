"""Simulation of pairs of models, to measure the error rates of intervals and tests.

    python -m tests.evaluation.statistics.simulation            # print the table
    python -m tests.evaluation.statistics.simulation --write    # also write it to docs/results.md

Both models share the difficulty of images, so that their errors are correlated like those of real
models. Two equal models differ only by chance: how often they are told apart is the false positive rate.
For two unequal models the expected difference is estimated from many more images.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from evaluation.metrics.class_records import ClassificationEvidence, SegmentationEvidence
from evaluation.metrics.coco_matching import AREAS, OVERLAPS
from evaluation.metrics.instance_records import InstanceEvidence, Matches
from evaluation.metrics.records import Evidence
from evaluation.statistics.bootstrap import difference_interval, figure_interval, resample
from evaluation.statistics.randomization import paired_tests
from evaluation.statistics.result_metrics import each_image_once, metric_of

DOCS = Path(__file__).parents[3] / 'docs' / 'results.md'
START, END = '<!-- simulation -->', '<!-- end of simulation -->'
CLASSES = tuple(f'class {number}' for number in range(6))
# Shares of objects and pixels by class: some classes are rare, as in real data.
SHARES = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
TRIALS = 400
# Images used to estimate the expected figures, in sets of the size of a trial.
IMAGES_OF_TRUTH = 200_000

Pair = tuple[Evidence, Evidence, Evidence]


@dataclass(frozen=True)
class Scenario:
    """A metric, and the models to simulate.

    Attributes:
        metric: name of the metric.
        images: number of images in each trial.
        simulate: function from number of images and random generator to the records of a model, of an
            equal model, and of a better model.
        setting: description of further settings, for display.
    """

    metric: str
    images: int
    simulate: Callable[[int, np.random.Generator], Pair]
    setting: str = ''


def names(images: int) -> np.ndarray:
    return np.array([f'{number:06}' for number in range(images)])


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def classifiers(accuracy: float) -> Callable[[int, np.random.Generator], Pair]:
    """Simulate two classifiers of this accuracy, and one with a third fewer errors."""

    def simulate(images: int, random: np.random.Generator) -> Pair:
        # Half of the images are equally hard for all models.
        shared, is_shared = random.random(images), random.random(images) < 0.5

        def classify(error: float) -> ClassificationEvidence:
            right = np.where(is_shared, shared, random.random(images)) >= error
            label = np.zeros(images, np.int32)
            wrong = (~right).astype(np.int32)
            return ClassificationEvidence(names(images), CLASSES, label, wrong, wrong.astype(np.uint8))

        error = 1 - accuracy
        return classify(error), classify(error), classify(error * 2 / 3)

    return simulate


def segmentors(images: int, random: np.random.Generator) -> Pair:
    """Simulate confusion of images with some of the classes, with errors by image and by class."""
    classes = len(CLASSES)
    area = random.dirichlet(2 * SHARES, images) * 10_000
    area[area < 200] = 0
    difficulty = random.normal(0, 0.6, (images, 1)) + random.normal(0, 0.4, (images, classes))

    def segment(skill: float) -> SegmentationEvidence:
        right = sigmoid(1 + skill - difficulty + random.normal(0, 0.6, (images, classes)))
        confusion = np.zeros((images, classes, classes), np.int64)
        mistaken = random.dirichlet(0.5 * SHARES, (images, classes))
        confusion += ((area * (1 - right))[..., None] * mistaken).astype(np.int64)
        for number in range(classes):
            confusion[:, number, number] += (area * right)[:, number].astype(np.int64)
        image, label, predicted = np.nonzero(confusion)
        pixels = confusion[image, label, predicted]
        return SegmentationEvidence(names(images), CLASSES, image, label, predicted, pixels)

    return segment(0), segment(0), segment(0.15)


def detectors(share_differing: float = 1.0) -> Callable[[int, np.random.Generator], Pair]:
    """Simulate detectors that find objects by skill and difficulty, with additional false positives.

    Args:
        share_differing: share of images on which the predictions of the equal model differ.
    """

    def simulate(images: int, random: np.random.Generator) -> Pair:
        counts = random.poisson(3, images)
        image = np.repeat(np.arange(images), counts)
        label = random.choice(len(CLASSES), len(image), p=SHARES)
        hardness = random.normal(0, 0.7, images)
        difficulty = hardness[image] + random.normal(0, 0.7, len(image))
        objects = image, label, difficulty

        first = detect(images, objects, hardness, 0, random)
        second = detect(images, objects, hardness, 0, random)
        if share_differing < 1:
            second = merged(first, second, random.random(images) < share_differing)
        return first, second, detect(images, objects, hardness, 0.3, random)

    return simulate


def detect(
    images: int,
    objects: tuple[np.ndarray, np.ndarray, np.ndarray],
    hardness: np.ndarray,
    skill: float,
    random: np.random.Generator,
) -> InstanceEvidence:
    image, label, difficulty = objects
    logit = 0.8 + skill - difficulty + random.normal(0, 1, len(image))
    found = random.random(len(image)) < sigmoid(logit)
    overlap = 0.55 + 0.12 * logit + 0.12 * random.normal(0, 1, len(image))
    score = sigmoid(logit + random.normal(0, 1, len(image)))
    invented = np.repeat(np.arange(images), random.poisson(2 * np.exp(0.4 * hardness)))
    bits = (overlap[found, None] >= OVERLAPS) @ (1 << np.arange(len(OVERLAPS)))
    return evidence_of(
        images,
        (image, label),
        np.concatenate([image[found], invented]),
        np.concatenate([label[found], random.integers(len(CLASSES), size=len(invented))]),
        np.concatenate([score[found], sigmoid(random.normal(-0.7, 1, len(invented)))]),
        np.concatenate([bits, np.zeros(len(invented), np.int64)]),
    )


def evidence_of(
    images: int,
    objects: tuple[np.ndarray, np.ndarray],
    image: np.ndarray,
    label: np.ndarray,
    score: np.ndarray,
    bits: np.ndarray,
) -> InstanceEvidence:
    order = np.lexsort((-score, image, label))
    columns = len(AREAS)
    hits = np.repeat(bits[order, None].astype(np.uint16), columns, axis=1)
    nothing = np.zeros(len(order))
    matches = Matches(hits, np.zeros_like(hits), nothing.astype(np.uint8), nothing.astype(np.int32) - 1)
    return InstanceEvidence(
        images=names(images),
        classes=CLASSES,
        detection_image=image[order].astype(np.int32),
        detection_class=label[order].astype(np.int16),
        detection_score=score[order],
        object_image=objects[0].astype(np.int32),
        object_class=objects[1].astype(np.int16),
        object_counts=np.ones((len(objects[0]), columns), np.bool_),
        matches={'box': matches},
    )


def merged(first: InstanceEvidence, second: InstanceEvidence, chosen: np.ndarray) -> InstanceEvidence:
    """Return the first detector with predictions of the second on chosen images, (images,), bool."""
    kept = [~chosen[first.detection_image], chosen[second.detection_image]]
    columns = [
        np.concatenate([column[keep] for column, keep in zip(pair, kept, strict=True)])
        for pair in (
            (first.detection_image, second.detection_image),
            (first.detection_class, second.detection_class),
            (first.detection_score, second.detection_score),
            (first.matches['box'].hits[:, 0], second.matches['box'].hits[:, 0]),
        )
    ]
    return evidence_of(len(chosen), (first.object_image, first.object_class), *columns)


SCENARIOS = (
    Scenario('top1', 20, classifiers(0.9), 'accuracy 90 %'),
    Scenario('top1', 48, classifiers(0.97), 'accuracy 97 %'),
    Scenario('top1', 120, classifiers(0.99), 'accuracy 99 %'),
    Scenario('top1', 200, classifiers(0.8), 'accuracy 80 %'),
    Scenario('top1', 1000, classifiers(0.75), 'accuracy 75 %'),
    *(Scenario('mIoU', images, segmentors) for images in (20, 48, 200, 1000)),
    *(Scenario('box_AP', images, detectors()) for images in (20, 48, 200, 1000)),
    *(Scenario('box_AP', images, detectors(0.1), 'one image in ten differs') for images in (48, 200)),
)


@dataclass(frozen=True)
class Rates:
    """Shares of trials with each outcome.

    Attributes:
        false_positives: share in which equal models were told apart.
        figure_covered: share in which the interval of a figure covers the expected figure.
        difference_covered: share in which the interval of a difference between unequal models covers
            the expected difference.
        difference: expected difference, in points.
        power: share in which unequal models were told apart.
    """

    false_positives: float
    figure_covered: float
    difference_covered: float
    difference: float
    power: float


def rates(scenario: Scenario, trials: int, resamples: int, images_of_truth: int) -> Rates:
    expected, better = expectation(scenario, max(200, images_of_truth // scenario.images))
    outcomes = [trial(scenario, number, resamples, expected, better) for number in range(trials)]
    shares = np.nanmean(np.array(outcomes, np.float64), axis=0)
    return Rates(*shares[:3], better - expected, shares[3])


def expectation(scenario: Scenario, sets: int) -> tuple[float, float]:
    """Return the mean figures of the model and of the better one over many sets of images."""
    figures = []
    for number in range(sets):
        first, _, third = scenario.simulate(scenario.images, np.random.default_rng([2, number]))
        figures.append([value(scenario.metric, each) for each in (first, third)])
    return tuple(np.nanmean(figures, axis=0))


def value(metric: str, evidence: Evidence) -> float:
    return metric_of(evidence, [metric])(each_image_once(evidence))[metric]


def trial(
    scenario: Scenario, number: int, resamples: int, expected: float, better: float
) -> tuple[float, float, float, float]:
    metric, images = scenario.metric, scenario.images
    first, equal, third = scenario.simulate(images, np.random.default_rng([1, number]))
    metrics = [metric_of(each, [metric]) for each in (first, third)]
    whole, samples = resample(metrics, images, resamples, seed=number)
    (value, other), (drawn, others) = ([each[metric] for each in part] for part in (whole, samples))
    null, test = (paired_tests([metric], [a], [b])[metric] for a, b in ((first, equal), (third, first)))
    if None in (null, test):
        return (np.nan,) * 4
    figure = figure_interval(metric, value, drawn, images)
    difference = difference_interval(metric, other - value, others - drawn, ([third], [first]), test)
    return (
        null.is_told_apart,
        covers(figure.low, figure.high, expected),
        covers(difference.low, difference.high, better - expected),
        test.is_told_apart,
    )


def covers(low: float, high: float, expected: float) -> float:
    return np.nan if np.isnan(low) else float(low <= expected <= high)


def table(trials: int, resamples: int, images_of_truth: int = IMAGES_OF_TRUTH) -> str:
    rows = [
        '| Metric | Images | False positives | Coverage, figure | Coverage, difference '
        '| Expected difference | Told apart |',
        '| --- | ---: | ---: | ---: | ---: | ---: | ---: |',
    ]
    for scenario in tqdm(SCENARIOS, desc='scenarios', disable=None):
        found = rates(scenario, trials, resamples, images_of_truth)
        word = {'top1': 'top-1', 'mIoU': 'mIoU', 'box_AP': 'box AP'}[scenario.metric]
        name = f'{word}, {scenario.setting}' if scenario.setting else word
        shares = found.false_positives, found.figure_covered, found.difference_covered
        cells = [f'{100 * share:.1f} %' for share in shares]
        cells += [f'{found.difference:.1f}', f'{100 * found.power:.0f} %']
        rows.append(f'| {name} | {scenario.images:,} | {" | ".join(cells)} |')
    return '\n'.join(rows)


def write_table(page: Path, found: str) -> None:
    """Replace the table between the marks of a page."""
    before, rest = page.read_text().split(START)
    _, after = rest.split(END)
    page.write_text(f'{before}{START}\n{found}\n{END}{after}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--trials', type=int, default=TRIALS, help='pairs per row (default %(default)s)')
    parser.add_argument(
        '--resamples', type=int, default=400, help='resamples per trial (default %(default)s)'
    )
    parser.add_argument('--write', action='store_true', help=f'write the table to {DOCS.name}')
    arguments = parser.parse_args()
    found = table(arguments.trials, arguments.resamples)
    print(found)
    if arguments.write:
        write_table(DOCS, found)


if __name__ == '__main__':
    main()
