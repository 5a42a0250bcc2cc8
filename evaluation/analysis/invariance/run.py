"""Measure metrics of a model over the strengths of transforms."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evaluation.analysis.adapter import Sample
from evaluation.analysis.invariance.conditions import TRANSFORMS, Condition
from evaluation.analysis.invariance.prediction_changes import (
    PredictionComparison,
    Settings,
    comparison_of,
)
from evaluation.analysis.invariance.result import ANALYSIS, Curve, InvarianceResult, mean_of_numbers
from evaluation.analysis.parts import Parts, combined
from evaluation.analysis.subject import Subject, complete_subject_parts

UNCHANGED = 'unchanged'
_MARK = '/'


def analyze(subject: Subject, settings: Settings, output: Path) -> Parts:
    """Measure all images under all conditions; each process measures its share.

    Args:
        subject: trained model and its test images.
        settings: settings of the analysis.
        output: file of the result; unfinished work is kept next to it.

    Raises:
        UserError: there is not enough memory, or an image cannot be read.
        Interrupted: the user interrupted the work; running the same command again resumes it.
    """
    comparison = comparison_of(subject, settings)
    conditions = settings.conditions
    facts = {
        'analysis': ANALYSIS,
        'conditions': [str(condition) for condition in conditions],
        'comparison': comparison.facts,
    }

    def work(share: Sequence[int]) -> dict[str, np.ndarray]:
        samples = (subject.samples[index] for index in share)
        arrays = (measure(subject, comparison, conditions, sample) for sample in samples)
        return combined(arrays, subject.task.combined)

    return complete_subject_parts(subject, output, facts, range(len(subject.samples)), work)


def summarize(subject: Subject, settings: Settings, parts: Parts) -> InvarianceResult:
    """Compute the result from the finished parts."""
    comparison = comparison_of(subject, settings)
    arrays = split(parts.combined(subject.task.combined))
    found = curves(comparison, arrays, settings.conditions)
    present = {name for curve in found.values() for name in curve.metrics}
    return InvarianceResult(
        subject=subject.as_json(),
        settings=dict(comparison.facts),
        shown=[name for name in comparison.shown if name in present],
        unchanged=subject.task.metrics(arrays[UNCHANGED]),
        curves=found,
        device=subject.device.type,
    )


def measure(
    subject: Subject, comparison: PredictionComparison, conditions: Sequence[Condition], sample: Sample
) -> dict[str, np.ndarray]:
    """Measure one image under all conditions; return arrays named by condition and measure."""
    (before,) = subject.predict([sample.image])
    found = {UNCHANGED: subject.task.measure(before, sample.truth)}
    # Changed images are made in batches, so that memory use does not depend on the number of conditions.
    for start in range(0, len(conditions), subject.batch):
        some = conditions[start : start + subject.batch]
        images = [comparison.image(sample, condition) for condition in some]
        changed = [image for image in images if not np.array_equal(image, sample.image)]
        predictions = iter(subject.predict(changed))
        for condition, image in zip(some, images, strict=True):
            is_changed = not np.array_equal(image, sample.image)
            prediction = next(predictions) if is_changed else before
            found[str(condition)] = comparison.measure(sample, before, condition, prediction)
    return {
        f'{place}{_MARK}{name}': array
        for place, arrays in found.items()
        for name, array in arrays.items()
    }


def split(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Group arrays by condition and measure."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        place, _, measure_name = name.partition(_MARK)
        found.setdefault(place, {})[measure_name] = array
    return found


def curves(
    comparison: PredictionComparison,
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    conditions: Sequence[Condition],
) -> dict[str, Curve]:
    """Return metrics by transform and strength, averaged over directions."""
    by_strength: dict[tuple[str, float], list[dict[str, float]]] = {}
    for condition in conditions:
        metrics = comparison.metrics(arrays[str(condition)])
        by_strength.setdefault((condition.transform, condition.strength), []).append(metrics)
    found = {}
    for transform in TRANSFORMS:
        own = {strength: each for (name, strength), each in by_strength.items() if name == transform}
        if own:
            names = next(iter(own.values()))[0]
            values = {
                name: [mean_of_numbers([m[name] for m in each]) for each in own.values()]
                for name in names
            }
            directions = [c.direction for c in conditions if c.transform == transform and c.direction]
            found[transform] = Curve([*own], values, list(dict.fromkeys(directions)))
    return found
