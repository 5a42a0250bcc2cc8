"""The images of a data set under corruptions."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from evaluation.analysis.robustness.conditions import Condition, Plan, Trial
from evaluation.analysis.robustness.corruptions import corrupted
from evaluation.analysis.subject import Subject
from evaluation.analysis.tasks.samples import Sample


def corrupted_trials(
    subject: Subject, plan: Plan, conditions: Sequence[Condition], indices: Sequence[int]
) -> list[Trial]:
    """Some images under the severities of one corruption."""
    trials = []
    for index in indices:
        for condition in conditions:
            sample = corrupted_sample(subject, index, condition, plan.seed)
            trials.append(Trial(condition, sample.image, index, sample.truth))
    return trials


def corrupted_sample(subject: Subject, index: int, condition: Condition, seed: int) -> Sample:
    """An image under a corruption, in the frame that the model sees.

    Photographs of detectors and segmentors are corrupted before they are resized, as Michaelis et al.
    do (arXiv 1907.07484); those of classifiers after they are cropped, as ImageNet-C was made.
    """

    def change(image: np.ndarray) -> np.ndarray:
        return corrupted(image, condition.name, int(condition.level), seed, index)

    if subject.task.is_cropped:
        sample = subject.samples[index]
        return replace(sample, image=change(sample.image))
    return subject.samples.changed(index, change)
