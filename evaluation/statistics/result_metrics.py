"""From a result to its metrics as functions of the images, and whether both are of one evaluation."""

from collections.abc import Sequence

import numpy as np

from evaluation.metrics.record_files import read_evidence
from evaluation.metrics.records import Evidence, Measure
from evaluation.results.result import Result
from evaluation.tasks import TASKS
from evaluation.utils.errors import UserError
from evaluation.utils.files import file_sha256

# In percent; the evidence determines the figures to the last digits.
TOLERANCE = 1e-6


def load_evidence(result: Result) -> Evidence:
    """Read the evidence of a result, and see that the result's figures come from it.

    Raises:
        UserError: there is none, or it is not of this result.
    """
    if result.evidence is None:
        raise UserError(
            f'{result.path} has no evidence of its images, as those of earlier versions of the suite; '
            'evaluate the checkpoint again'
        )
    file = result.evidence.path
    if not file.is_file():
        raise UserError(f'{file} is missing; keep it beside result.json, or evaluate again')
    if file_sha256(file) != result.evidence.sha256:
        raise UserError(f'{file} is not the one that {result.path} names; evaluate again')
    evidence = read_evidence(file, result.task)
    if len(evidence.images) != result.images:
        raise UserError(f'{file} is of another number of images than {result.path}; evaluate again')
    _check_figures(result, headline_metrics(result.task, evidence)(each_image_once(evidence)))
    return evidence


def headline_metrics(task: str, evidence: Evidence) -> Measure:
    """The function that computes the metrics of a task that tables show and the evidence determines."""
    return metric_of(evidence, [name for name in TASKS[task].headlines if evidence.determines(name)])


def _check_figures(result: Result, found: dict[str, float]) -> None:
    if found.keys() != {*result.headline_metrics}:
        raise UserError(
            f'{result.path} has {", ".join(result.headline_metrics)}, but its evidence determines '
            f'{", ".join(found)}; evaluate again'
        )
    for name, value in found.items():
        told = result.metrics[name]
        if np.isnan(value) != (told is None) or (told is not None and abs(told - value) > TOLERANCE):
            raise UserError(
                f'{result.path} says {name} is {told}, but its evidence says {value}; evaluate again'
            )


def check_same_images(results: Sequence[Result], evidence: Sequence[Evidence]) -> None:
    """See that several models were tested on the same images, classes and truth.

    Raises:
        UserError: they were not.
    """
    first, *others = zip(results, evidence, strict=True)
    for result, found in others:
        if not np.array_equal(found.images, first[1].images):
            differing = len(np.setxor1d(found.images, first[1].images))
            raise UserError(
                f'{first[0].path} and {result.path} were tested on other images ({differing} are in one '
                'alone); evaluate both on the same'
            )
        if not np.array_equal(found.classes, first[1].classes):
            raise UserError(
                f'{first[0].path} and {result.path} were tested on different classes, or in a different '
                f'order ({len(first[1].classes)} and {len(found.classes)} classes); evaluate both '
                'on the same'
            )
        digests = first[0].data_sha256, result.data_sha256
        if digests[0] != digests[1] and None in digests:
            raise UserError(
                f'whether {first[0].path} and {result.path} were tested on the same annotations is not '
                'known (the data.sha256 of one is null); evaluate both again'
            )
        if digests[0] != digests[1]:
            raise UserError(
                f'{first[0].path} and {result.path} were tested on other annotations (their data.sha256 '
                'differ); evaluate both on the same'
            )


def each_image_once(evidence: Evidence) -> np.ndarray:
    """Return how often each image counts where they are taken as they are, (images,), int64."""
    return np.ones(len(evidence.images), np.int64)


def metric_of(evidence: Evidence, names: Sequence[str]) -> Measure:
    """Return the function that computes the named metrics, and what comes along with them.

    Raises:
        KeyError: the evidence does not determine one of them.
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
