"""Evaluate a model on its test images under attacks and corruptions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from evaluation.analysis.adapter import Sample
from evaluation.analysis.parts import ITEMS_IN_A_PART, Parts, combined
from evaluation.analysis.robustness.attack_losses import check_attackable, loss_of
from evaluation.analysis.robustness.attacks import (
    Loss,
    Slope,
    fgsm,
    losses,
    pgd,
    radius_of,
    random_start,
    slope,
)
from evaluation.analysis.robustness.conditions import CLEAN, Condition, Plan, Trial, corrupted
from evaluation.analysis.robustness.result import ANALYSIS, ConditionResult, Profile
from evaluation.analysis.subject import Subject, complete_subject_parts
from evaluation.utils.process_groups import note

LOSS = 'loss'
# Separates the name of a condition from the name of an array.
SEPARATOR = '/'


def analyze(subject: Subject, plan: Plan, output: Path) -> Parts:
    """Evaluate all images under all conditions; each process evaluates its share.

    Args:
        subject: model and its test images.
        plan: settings of the analysis.
        output: file of the result; unfinished work is kept next to it until `Parts.remove`.

    Returns:
        The finished parts.

    Raises:
        UserError: the model does not support the plan, or there is not enough memory.
        Interrupted: the user interrupted the work; running the same command again resumes it.
    """
    if plan.attacks:
        check_attackable(subject.task, subject.model)
    count, passes = len(subject.samples), plan.passes
    conditions = sum(map(len, passes))
    note(f'{count} images under {conditions} conditions, in {len(passes)} passes')
    settings = {'analysis': ANALYSIS, 'plan': repr(plan)}
    return complete_subject_parts(
        subject,
        output,
        settings,
        schedule(count, len(passes)),
        lambda share: measured(subject, plan, share),
    )


def schedule(images: int, passes: int) -> list[tuple[int, int]]:
    """Return (pass, image) indices in the order of the work.

    The images of a part go through all passes in turn, and the next part starts with a different pass.
    So estimates of the time left are accurate, and expensive passes are spread over processes.
    """
    begins = range(0, images, ITEMS_IN_A_PART)
    return [
        ((turn + number) % passes, index)
        for turn, begin in enumerate(begins)
        for number in range(passes)
        for index in range(begin, min(begin + ITEMS_IN_A_PART, images))
    ]


def measured(subject: Subject, plan: Plan, share: Sequence[tuple[int, int]]) -> Mapping[str, np.ndarray]:
    """Measure some images, each under the conditions of one pass.

    Args:
        subject: model and its test images.
        plan: settings of the analysis.
        share: (pass, image) indices, grouped by pass.
    """
    found = []
    for number, items in groupby(share, key=itemgetter(0)):
        indices, conditions = [index for _, index in items], plan.passes[number]
        if conditions[0].name == CLEAN:
            runs = attacked_trials(subject, plan, indices)
        else:
            runs = [corrupted_trials(subject, plan, conditions, indices)]
        found += [arrays for trials in runs for arrays in _arrays(subject, trials)]
    return combined(found, subject.task.combined)


def _arrays(subject: Subject, trials: Sequence[Trial]) -> Iterator[dict[str, np.ndarray]]:
    """Predict each trial and compare it with the truth."""
    for trial, prediction in zip(trials, _predictions(subject, trials), strict=True):
        found = dict(subject.task.measure(prediction, trial.truth))
        if trial.loss is not None:
            found[LOSS] = np.array([trial.loss])
        yield {trial.condition.key + SEPARATOR + name: array for name, array in found.items()}


def _predictions(subject: Subject, trials: Sequence[Trial]) -> list:
    """Return a prediction for each trial.

    An image that an attack left unchanged gets the prediction of the clean image, since a prediction in
    a different batch could differ in its last digit.
    """
    clean = {trial.index: trial for trial in trials if trial.condition.name == CLEAN}
    sources = [
        clean[trial.index]
        if trial.index in clean and np.array_equal(trial.image, clean[trial.index].image)
        else trial
        for trial in trials
    ]
    own = [trial for trial, source in zip(trials, sources, strict=True) if trial is source]
    found = dict(zip(map(id, own), subject.predict([trial.image for trial in own]), strict=True))
    return [found[id(source)] for source in sources]


def summarize(subject: Subject, plan: Plan, parts: Parts) -> Profile:
    """Compute the metrics of each condition."""
    arrays = parts.combined(subject.task.combined)

    def result(condition: Condition) -> ConditionResult:
        prefix = condition.key + SEPARATOR
        own = {name.removeprefix(prefix): x for name, x in arrays.items() if name.startswith(prefix)}
        loss = own.pop(LOSS, None)
        mean = None if loss is None else float(loss.sum()) / len(subject.samples)
        return ConditionResult(condition, subject.task.metrics(own), mean)

    return Profile(
        facts=subject.as_json(),
        plan=plan,
        device=subject.device.type,
        results=[result(condition) for conditions in plan.passes for condition in conditions],
    )


def attacked_trials(subject: Subject, plan: Plan, indices: Sequence[int]) -> Iterator[list[Trial]]:
    """Yield trials of some images, clean and under all attacks, in runs of images of the same size."""
    # A detector's loss takes one image at a time; a larger batch would only use more memory.
    batch = 1 if subject.task.loss_takes_one else subject.batch
    samples = [subject.samples[index] for index in indices]
    for run in runs(list(zip(indices, samples, strict=True)), batch):
        yield _attacked_run(subject, plan, *map(list, zip(*run, strict=True)), batch)


def runs(samples: Sequence[tuple[int, Sample]], batch: int) -> Iterator[Sequence[tuple[int, Sample]]]:
    """Yield runs of up to `batch` consecutive (index, sample) pairs with the same image size."""
    for _, same in groupby(samples, key=lambda each: each[1].image.shape):
        same = list(same)
        yield from (same[start : start + batch] for start in range(0, len(same), batch))


def _attacked_run(
    subject: Subject, plan: Plan, indices: Sequence[int], samples: Sequence[Sample], batch: int
) -> list[Trial]:
    """Attack images of the same size with all budgets, up to `batch` (image, budget) pairs at a time."""
    clean = Condition(CLEAN)
    if not plan.attacks:
        return [Trial(clean, s.image, i, s.truth) for i, s in zip(indices, samples, strict=True)]
    images = torch.stack([_as_tensor(sample.image) for sample in samples]).to(subject.device)
    attack = Attack(subject, plan, indices, [sample.truth for sample in samples], images)
    trials = [
        Trial(clean, sample.image, index, sample.truth, loss)
        for index, sample, loss in zip(indices, samples, attack.clean.values.tolist(), strict=True)
    ]
    for name in plan.attacks:
        pairs = [(place, budget) for place in range(len(images)) for budget in plan.budgets]
        for start in range(0, len(pairs), batch):
            some = pairs[start : start + batch]
            changed, values = attack(name, [p for p, _ in some], [b for _, b in some])
            arrays = changed.permute(0, 2, 3, 1).cpu().numpy()
            for (place, budget), array, value in zip(some, arrays, values.tolist(), strict=True):
                truth = samples[place].truth
                trials.append(Trial(Condition(name, budget), array, indices[place], truth, value))
    return trials


class Attack:
    """Attacks on images of the same size.

    Args:
        subject: model and its test images.
        plan: settings of the analysis; norm, steps and seed are used.
        indices: indices of the images in the data set.
        truths: ground truth of the images.
        images: (B, 3, H, W), 0 to 255, float32, on the model's device.
    """

    def __init__(
        self,
        subject: Subject,
        plan: Plan,
        indices: Sequence[int],
        truths: Sequence[object],
        images: Tensor,
    ) -> None:
        self._subject = subject
        self._plan = plan
        self._seeds = [(plan.seed, index) for index in indices]
        self._truths = truths
        self._images = images
        self.clean = slope(self._loss(range(len(images))), images)

    def __call__(
        self, name: str, places: Sequence[int], budgets: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        """Attack some of the images, each with its own budget.

        Args:
            name: name of the attack.
            places: positions of the images in the batch.
            budgets: budget of each image; see `radius_of`.

        Returns:
            Images, (len(places), 3, H, W), and their losses, (len(places),).
        """
        plan, images = self._plan, self._images[places]
        loss, clean = self._loss(places), Slope(*(x[places] for x in vars(self.clean).values()))
        shape = images.shape[1:]
        radius = [radius_of(budget, plan.norm, shape) for budget in budgets]
        radius = torch.tensor(radius, dtype=torch.float64, device=images.device)
        if name == 'fgsm':
            changed = fgsm(images, clean.gradient, radius, plan.norm)
            values = losses(loss, changed)
        else:
            start = random_start([self._seeds[place] for place in places], shape, plan.norm)
            start = start.to(images.device)
            changed, values = pgd(loss, images, clean, radius, plan.norm, plan.steps, start)
        # The same image in a different batch could have a loss that differs in its last digit.
        return changed, torch.where((changed == images).all((1, 2, 3)), clean.values, values)

    def _loss(self, places: Sequence[int]) -> Loss:
        truths, seeds = ([each[place] for place in places] for each in (self._truths, self._seeds))
        return loss_of(self._subject.task, self._subject.model, truths, seeds)


def _as_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))


def corrupted_trials(
    subject: Subject, plan: Plan, conditions: Sequence[Condition], indices: Sequence[int]
) -> list[Trial]:
    """Return trials of some images under all severities of one corruption."""
    trials = []
    for index in indices:
        for condition in conditions:
            sample = corrupted_sample(subject, index, condition, plan.seed)
            trials.append(Trial(condition, sample.image, index, sample.truth))
    return trials


def corrupted_sample(subject: Subject, index: int, condition: Condition, seed: int) -> Sample:
    """Return an image under a corruption, in the frame that the model sees.

    For detectors and segmentors, images are corrupted before resizing, as in Michaelis et al. (arXiv
    1907.07484); for classifiers, after cropping, as in ImageNet-C.
    """

    def change(image: np.ndarray) -> np.ndarray:
        return corrupted(image, condition.name, int(condition.level), seed, index)

    if subject.task.is_cropped:
        sample = subject.samples[index]
        return replace(sample, image=change(sample.image))
    return subject.samples.changed(index, change)
