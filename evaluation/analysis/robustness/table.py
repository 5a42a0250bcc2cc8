"""Accuracy of several models under attacks and corruptions as a table."""

import math
from collections.abc import Sequence

from evaluation.analysis.robustness.attacks import ATTACKS, UNITS
from evaluation.analysis.robustness.conditions import Condition
from evaluation.analysis.robustness.corruptions import CORRUPTIONS, KINDS
from evaluation.analysis.robustness.profile import Profile
from evaluation.utils.rounding import fixed
from evaluation.utils.text_tables import DASH, Cell, Column, Table

SUMMARIES = (
    'mPC: mean performance under corruption. rPC: in percent of the clean one. Kinds of corruptions: '
    'means of theirs.'
)


def robustness_table(profiles: Sequence[Profile]) -> Table:
    """A group of rows for each model, a row for each metric.

    Args:
        profiles: of one task and one plan, but for the budgets.
    """
    attacked = attacks_of(profiles)
    kinds = [kind for kind, names in KINDS.items() if {*names} & {*profiles[0].plan.corruptions}]
    headings = ['Model', 'Metric', 'Images', 'Clean']
    headings += [f'{each.name.upper()} {each.level:g}' for each in attacked]
    headings += [kind.capitalize() for kind in kinds] + (['mPC', 'rPC'] if kinds else [])
    return Table(
        title='Robustness',
        columns=tuple(
            Column(heading, heading, numeric=heading not in ('Model', 'Metric')) for heading in headings
        ),
        groups=tuple(
            tuple(_row(profile, metric, attacked, kinds) for metric in profile.headlines)
            for profile in profiles
        ),
        notes=tuple(_notes(profiles[0], bool(attacked), bool(kinds))),
    )


def attacks_of(profiles: Sequence[Profile]) -> list[Condition]:
    """The attacks that any model was tried with, by name and budget."""
    found = {condition for profile in profiles for condition in profile.plan.attacked}
    return sorted(found, key=lambda each: (ATTACKS.index(each.name), each.level))


def _row(
    profile: Profile, metric: str, attacked: Sequence[Condition], kinds: Sequence[str]
) -> tuple[Cell, ...]:
    values = [profile.clean[metric], *(profile.value(condition, metric) for condition in attacked)]
    if kinds:
        of_kinds = [profile.summary(metric, KINDS[kind]) for kind in kinds]
        values += [each.mpc if each else math.nan for each in of_kinds]
        whole = profile.summary(metric)
        values += [math.nan if whole is None else whole.mpc]
        values += [math.nan if whole is None or whole.rpc is None else whole.rpc]
    texts = [profile.name, metric, str(profile.facts['images']['count'])]
    return tuple(map(Cell, [*texts, *map(percent, values)]))


def _notes(profile: Profile, with_attacks: bool, with_corruptions: bool) -> list[str]:
    plan, notes = profile.plan, []
    if with_attacks:
        steps = f'; PGD of {plan.steps} steps' if 'pgd' in plan.attacks else ''
        notes.append(f'Attacks in {plan.norm}, by budget: {UNITS[plan.norm]}{steps}.')
    if with_corruptions:
        severities = ', '.join(map(str, plan.severities))
        count = f'{len(plan.corruptions)} of {len(CORRUPTIONS)} corruptions'
        notes.append(f'{SUMMARIES} Of {count}, severities {severities}.')
    return notes


def percent(value: float) -> str:
    """A figure in percent, with one digit after the point; a dash where there is none."""
    return fixed(value, 1) if math.isfinite(value) else DASH
