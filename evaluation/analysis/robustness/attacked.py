"""The images of a data set under attacks on a model."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

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
from evaluation.analysis.robustness.conditions import CLEAN, Condition, Plan, Trial
from evaluation.analysis.robustness.targets import loss_of
from evaluation.analysis.subject import Subject
from evaluation.analysis.tasks.samples import Sample


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
