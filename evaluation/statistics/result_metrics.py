"""Metrics of a result as functions of its images, and checks that results and evidence match."""

from collections.abc import Sequence

import numpy as np

from evaluation.metrics.record_files import read_evidence
from evaluation.metrics.records import Evidence, Measure
from evaluation.results.result import Result
from evaluation.tasks import TASKS
from evaluation.utils.errors import UserError
from evaluation.utils.files import file_sha256

# In percent; per-image records determine the figures up to rounding errors.
TOLERANCE = 1e-6


def load_evidence(result: Result) -> Evidence:
    """Read the per-image records of a result and check that they yield the result's figures.

    Raises:
        UserError: the records are missing, unreadable, or do not match the result.
    """
    if result.evidence is None:
        raise UserError(
            f'{result.path} has no per-image records (results of earlier versions have none); '
            'evaluate the checkpoint again'
        )
    file = result.evidence.path
    if not file.is_file():
        raise UserError(f'{file} is missing; keep it next to result.json, or evaluate again')
    if file_sha256(file) != result.evidence.sha256:
        raise UserError(f'{file} does not match its digest in {result.path}; evaluate again')
    evidence = read_evidence(file, result.task)
    if len(evidence.images) != result.images:
        raise UserError(f'{file} has a different number of images than {result.path}; evaluate again')
    _check_figures(result, headline_metrics(result.task, evidence)(each_image_once(evidence)))
    return evidence


def headline_metrics(task: str, evidence: Evidence) -> Measure:
    """Return the function that computes the table metrics that the records determine."""
    return metric_of(evidence, [name for name in TASKS[task].headlines if evidence.determines(name)])


def _check_figures(result: Result, found: dict[str, float]) -> None:
    if found.keys() != {*result.headline_metrics}:
        raise UserError(
            f'{result.path} has {", ".join(result.headline_metrics)}, but its records determine '
            f'{", ".join(found)}; evaluate again'
        )
    for name, value in found.items():
        told = result.metrics[name]
        if np.isnan(value) != (told is None) or (told is not None and abs(told - value) > TOLERANCE):
            raise UserError(
                f'{result.path} says {name} is {told}, but its records say {value}; evaluate again'
            )


def check_same_images(results: Sequence[Result], evidence: Sequence[Evidence]) -> None:
    """Check that results were evaluated on the same images, classes and annotations.

    Raises:
        UserError: images, classes or annotations differ, or it is unknown whether annotations do.
    """
    first, *others = zip(results, evidence, strict=True)
    for result, found in others:
        if not np.array_equal(found.images, first[1].images):
            differing = len(np.setxor1d(found.images, first[1].images))
            raise UserError(
                f'{first[0].path} and {result.path} were evaluated on different images ({differing} are '
                'in only one of them); evaluate both on the same images'
            )
        if not np.array_equal(found.classes, first[1].classes):
            raise UserError(
                f'{first[0].path} and {result.path} were evaluated on different classes, or in a '
                f'different order ({len(first[1].classes)} and {len(found.classes)} classes); evaluate '
                'both on the same classes'
            )
        digests = first[0].data_sha256, result.data_sha256
        if digests[0] != digests[1] and None in digests:
            raise UserError(
                f'it is unknown whether {first[0].path} and {result.path} were evaluated on the same '
                'annotations (data.sha256 of one is null); evaluate both again'
            )
        if digests[0] != digests[1]:
            raise UserError(
                f'{first[0].path} and {result.path} were evaluated on different annotations (their '
                'data.sha256 differ); evaluate both on the same annotations'
            )


def each_image_once(evidence: Evidence) -> np.ndarray:
    """Return weights that count each image once, (images,), int64."""
    return np.ones(len(evidence.images), np.int64)


def metric_of(evidence: Evidence, names: Sequence[str]) -> Measure:
    """Return the function that computes the named metrics, and any metrics computed with them.

    Raises:
        KeyError: the evidence does not determine one of the metrics.
    """
    parts: list[Measure] = []
    known: set[str] = set()
    for name in names:
        if name not in known:
            parts.append(evidence.metrics_of(name))
            known |= parts[-1](each_image_once(evidence)).keys()

    def evaluate(weights: np.ndarray) -> dict[str, float]:
        return {name: value for part in parts for name, value in part(weights).items()}

    return evaluate
