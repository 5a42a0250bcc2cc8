"""Run a model on its test images under attacks and corruptions, and measure what it predicts."""

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
# Between the name of a condition and that of an array of it.
SEPARATOR = '/'


def analyse(subject: Subject, plan: Plan, output: Path) -> Parts:
    """Look at all images under all conditions; this process takes its share where there are several.

    Args:
        subject: the model and its test images.
        plan: what to do.
        output: name of the result; unfinished work is kept beside it until `Parts.remove`.

    Returns:
        The finished parts.

    Raises:
        UserError: something in the plan does not go with the model, or memory does not suffice.
        Interrupted: it was interrupted; the command can be repeated to go on.
    """
    if plan.attacks:
        check_attackable(subject.task, subject.model)
    count, passes = len(subject.samples), plan.passes
    conditions = sum(map(len, passes))
    note(f'{count} images under {conditions} conditions, passes over them: {len(passes)}')
    settings = {'analysis': ANALYSIS, 'plan': repr(plan)}
    return complete_subject_parts(
        subject,
        output,
        settings,
        schedule(count, len(passes)),
        lambda share: measured(subject, plan, share),
    )


def schedule(images: int, passes: int) -> list[tuple[int, int]]:
    """Number of the pass and of the image, of all, in the order of the work.

    The images of a part have all passes one after another, and those of the next part begin with
    another pass: so the time that is left can be foretold, and the passes that cost most do not all
    fall to the same one of several processes.
    """
    begins = range(0, images, ITEMS_IN_A_PART)
    return [
        ((turn + number) % passes, index)
        for turn, begin in enumerate(begins)
        for number in range(passes)
        for index in range(begin, min(begin + ITEMS_IN_A_PART, images))
    ]


def measured(subject: Subject, plan: Plan, share: Sequence[tuple[int, int]]) -> Mapping[str, np.ndarray]:
    """Arrays of some images, each under the conditions of one pass.

    Args:
        subject: the model and its test images.
        plan: what to do.
        share: number of the pass and of the image, those of a pass one after another.
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
    """Predict, and compare with the truth."""
    for trial, prediction in zip(trials, _predictions(subject, trials), strict=True):
        found = dict(subject.task.measure(prediction, trial.truth))
        if trial.loss is not None:
            found[LOSS] = np.array([trial.loss])
        yield {trial.condition.key + SEPARATOR + name: array for name, array in found.items()}


def _predictions(subject: Subject, trials: Sequence[Trial]) -> list:
    """A prediction for each trial.

    An image that is as before the attack gets the prediction of that: in another batch it might differ
    in its last digit.
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


def summarise(subject: Subject, plan: Plan, parts: Parts) -> Profile:
    """Figures of each condition."""
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
    """Some images as they are and under all attacks, in runs of images of one size."""
    # The loss of a detector takes one image at a time, and would only hold more memory.
    batch = 1 if subject.task.loss_takes_one else subject.batch
    samples = [subject.samples[index] for index in indices]
    for run in runs(list(zip(indices, samples, strict=True)), batch):
        yield _attacked_run(subject, plan, *map(list, zip(*run, strict=True)), batch)


def runs(samples: Sequence[tuple[int, Sample]], batch: int) -> Iterator[Sequence[tuple[int, Sample]]]:
    """Numbered samples that follow each other and are of one size, at most `batch`."""
    for _, same in groupby(samples, key=lambda each: each[1].image.shape):
        same = list(same)
        yield from (same[start : start + batch] for start in range(0, len(same), batch))


def _attacked_run(
    subject: Subject, plan: Plan, indices: Sequence[int], samples: Sequence[Sample], batch: int
) -> list[Trial]:
    """Images of one size under all attacks, (image, budget) pairs in passes of at most `batch`."""
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
    """Attacks on images of one size.

    Args:
        subject: with the model.
        plan: norm, steps and seed.
        indices: of the images in the data set.
        truths: of the images.
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
        """Attack some of the images, each with a budget of its own.

        Args:
            name: of the attack.
            places: of the images among all.
            budgets: of each; see `radius_of`.

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
        # In another batch the same image might have a loss that differs in its last digit.
        return changed, torch.where((changed == images).all((1, 2, 3)), clean.values, values)

    def _loss(self, places: Sequence[int]) -> Loss:
        truths, seeds = ([each[place] for place in places] for each in (self._truths, self._seeds))
        return loss_of(self._subject.task, self._subject.model, truths, seeds)


def _as_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))


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
