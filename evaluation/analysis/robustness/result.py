"""Results of a robustness analysis: metrics under each condition, writing and reading."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluation.analysis.results import (
    SUBJECT,
    defined,
    model_name,
    read_result,
    result_content,
    with_nan,
    with_null,
    write_content,
)
from evaluation.analysis.robustness.attacks import UNITS
from evaluation.analysis.robustness.conditions import Condition, Plan
from evaluation.tasks import TASKS

ANALYSIS = 'robustness'


@dataclass(frozen=True)
class Summary:
    """Summary of one metric, in percent.

    Attributes:
        clean: value on clean images.
        mpc: mean performance under corruption, averaged over severities, then over corruptions.
        rpc: relative performance under corruption, 100 * mPC / clean; None if clean is 0.
    """

    clean: float
    mpc: float
    rpc: float | None


def summarize(clean: float, corrupted: Sequence[Sequence[float]]) -> Summary | None:
    """Summarize a metric; return None if there are no corruptions or any value is undefined.

    Args:
        clean: value on clean images.
        corrupted: values by corruption and severity.
    """
    values = [value for severities in corrupted for value in severities]
    if not values or not all(map(math.isfinite, (clean, *values))):
        return None
    means = [math.fsum(severities) / len(severities) for severities in corrupted]
    mpc = math.fsum(means) / len(means)
    return Summary(clean, mpc, 100 * mpc / clean if clean else None)


@dataclass(frozen=True)
class ConditionResult:
    """Metrics of a model under a condition.

    Attributes:
        condition: condition applied to the images.
        metrics: metrics of the task by name, shares in percent; NaN if undefined.
        loss: mean of the loss that attacks increase; None without attacks.
    """

    condition: Condition
    metrics: Mapping[str, float]
    loss: float | None


@dataclass(frozen=True)
class Profile:
    """Result for one model.

    Attributes:
        facts: facts of the model and its images: `config`, `checkpoint`, `task`, `images`, `batch`.
        plan: settings of the analysis.
        device: `cpu` or `cuda`.
        results: results of all conditions, clean images first.
    """

    facts: dict
    plan: Plan
    device: str
    results: Sequence[ConditionResult]

    @property
    def name(self) -> str:
        """Name of the config and its checkpoint: `upernet_swin_tiny (iter_160000)`."""
        return model_name(self.facts)

    @property
    def clean(self) -> Mapping[str, float]:
        """Metrics on clean images."""
        return self.results[0].metrics

    @property
    def headlines(self) -> list[str]:
        """Headings of the primary metrics; tables show all of them, figures the first."""
        metrics = (metric for task in TASKS.values() for metric in task.metrics if metric.is_primary)
        return [metric.heading for metric in metrics if metric.heading in self.clean]

    def value(self, condition: Condition, metric: str) -> float:
        """Return a metric under a condition; NaN if it is undefined or was not measured."""
        found = [each.metrics[metric] for each in self.results if each.condition == condition]
        return found[0] if found else math.nan

    def summary(self, metric: str, corruptions: Sequence[str] | None = None) -> Summary | None:
        """Summarize a metric over all corruptions, or over some; None if it is undefined."""
        names = [name for name in self.plan.corruptions if corruptions is None or name in corruptions]
        levels = self.plan.severities
        values = [[self.value(Condition(name, level), metric) for level in levels] for name in names]
        return summarize(self.clean[metric], values)

    def as_json(self) -> dict:
        """Return the content of the JSON file."""
        attacked, corrupted = (
            [each for each in self.results[1:] if each.condition.is_attack is wanted]
            for wanted in (True, False)
        )
        summaries = {name: self.summary(name) for name in self.headlines}
        facts = {
            **self.facts,
            'plan': {**asdict(self.plan), 'unit_of_budgets': UNITS[self.plan.norm]},
            'clean': _figures(self.results[0]),
            'attacks': [
                {'attack': each.condition.name, 'budget': each.condition.level, **_figures(each)}
                for each in attacked
            ],
            'corruptions': [
                {'corruption': each.condition.name, 'severity': each.condition.level, **_figures(each)}
                for each in corrupted
            ],
            'summary': {
                name: {'clean': each.clean, 'mPC': each.mpc, 'rPC': each.rpc}
                for name, each in summaries.items()
                if each
            },
        }
        return result_content(ANALYSIS, facts, *self._columns(), self.device)

    def _columns(self) -> tuple[dict[str, float | None], str]:
        """Return values and note for tables: first metric at the smallest budget, mPC and rPC."""
        metric, plan, figures, notes = self.headlines[0], self.plan, {}, []
        budget = min(filter(None, plan.budgets), default=None)
        for name in plan.attacks if budget else ():
            heading = f'{name.upper()} {budget:g}'
            figures[heading] = self.value(Condition(name, budget), metric)
            notes.append(f'{heading}: {metric} under attack; {plan.norm}, {UNITS[plan.norm]}')
        whole = self.summary(metric)
        if whole:
            figures |= {'mPC': whole.mpc, 'rPC': whole.rpc}
            levels = ', '.join(map(str, plan.severities))
            notes.append(
                f'mPC: mean {metric} under {len(plan.corruptions)} corruptions, severities {levels}, '
                'and rPC: mPC in percent of the clean value'
            )
        return figures, f'{"; ".join(notes)}; images: {self.facts["images"]["count"]}.'


def csv_rows(profile: Profile) -> Iterator[list]:
    """Yield a row for each condition: all metrics unrounded, and headlines relative to clean images."""
    relative = [f'relative {name}' for name in profile.headlines]
    yield ['kind', 'condition', 'level', *profile.clean, *relative, 'loss']
    for each in profile.results:
        condition = each.condition
        kind = 'attack' if condition.is_attack else 'corruption'
        place = (
            ['clean', '', ''] if each is profile.results[0] else [kind, condition.name, condition.level]
        )
        values = [defined(each.metrics[name]) for name in profile.clean]
        shares = [_share(each.metrics[name], profile.clean[name]) for name in profile.headlines]
        yield [*place, *values, *shares, each.loss]


def write_profile(profile: Profile, file: Path) -> None:
    """Write the JSON file, and a CSV file next to it.

    Raises:
        UserError: a file cannot be written.
    """
    write_content(file, profile.as_json(), csv_rows(profile))


def read_profile(file: Path) -> Profile:
    """Read a JSON file that `write_profile` wrote.

    Raises:
        UserError: the file is missing or corrupt, or is not a result of this analysis.
    """
    content = read_result(file, ANALYSIS, ANALYSIS, 'tools/analyze_robustness.py')
    plan = {name: value for name, value in content['plan'].items() if name != 'unit_of_budgets'}
    results = [_result(Condition('clean'), content['clean'])]
    results += [_result(Condition(each['attack'], each['budget']), each) for each in content['attacks']]
    results += [
        _result(Condition(each['corruption'], each['severity']), each) for each in content['corruptions']
    ]
    facts = {name: content[name] for name in SUBJECT}
    return Profile(facts, Plan(**plan), content['hardware']['device'], results)


def _figures(result: ConditionResult) -> dict:
    return {'metrics': with_null(result.metrics), 'loss': result.loss}


def _result(condition: Condition, figures: Mapping) -> ConditionResult:
    return ConditionResult(condition, with_nan(figures['metrics']), figures['loss'])


def _share(value: float, clean: float) -> float | None:
    """Return a value in percent of the clean value."""
    return defined(100 * value / clean) if clean else None
