"""Metrics of an evaluation as functions of how often each image counts."""

from collections.abc import Sequence

import numpy as np

from evaluation.metrics.evidence.records import Evidence, Measure


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
