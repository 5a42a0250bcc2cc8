"""What `tools/analyze_robustness.py` does with a model: what it predicts under every condition."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from evaluation.analysis.parts import ITEMS_IN_A_PART, Parts, combined, complete, key_of
from evaluation.analysis.robustness.attacked import attacked_trials
from evaluation.analysis.robustness.conditions import CLEAN, Condition, Plan, Trial
from evaluation.analysis.robustness.corrupted import corrupted_trials
from evaluation.analysis.robustness.profile import ConditionResult, Profile
from evaluation.analysis.robustness.targets import check_attackable
from evaluation.analysis.subject import Subject, facts_of, memory_explained
from evaluation.data.startup_checks import note

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
    items = schedule(count, len(passes))
    facts = {**facts_of(subject), 'analysis': 'robustness', 'plan': repr(plan)}
    parts = Parts(output.with_suffix('.partial') / key_of(facts), len(items))
    conditions = sum(map(len, passes))
    note(f'{count} images under {conditions} conditions, passes over them: {len(passes)}')
    with memory_explained(subject):
        complete(parts, items, lambda share: measured(subject, plan, share))
    return parts


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
