"""Table and figure of the robustness of several models."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage

from evaluation.analysis.results import INK, blank_figure, percent, settle_layout, text_table
from evaluation.analysis.robustness.attacks import ATTACKS, UNITS
from evaluation.analysis.robustness.conditions import CORRUPTIONS, KINDS, Condition
from evaluation.analysis.robustness.result import Profile
from evaluation.utils.formats import COLORS
from evaluation.utils.text_tables import Table

SUMMARIES = (
    'mPC: mean performance under corruption. rPC: mPC in percent of the clean value. '
    'Noise, blur, weather, digital: means over corruptions of that kind.'
)
CURVE_INCHES = 3.2
CELL_INCHES = 0.48, 0.24
_COLORS = 'viridis'
_MARKERS = 'osD^vP*X'
# Colors above this share of the color map are light and need dark text.
_LIGHT = 0.6


def robustness_table(profiles: Sequence[Profile]) -> Table:
    """Return a table with a group of rows for each model and a row for each metric.

    Args:
        profiles: results of the same task and plan; budgets may differ.
    """
    attacked = attacks_of(profiles)
    kinds = [kind for kind, names in KINDS.items() if {*names} & {*profiles[0].plan.corruptions}]
    headings = ['Model', 'Metric', 'Images', 'Clean']
    headings += [f'{each.name.upper()} {each.level:g}' for each in attacked]
    headings += [kind.capitalize() for kind in kinds] + (['mPC', 'rPC'] if kinds else [])
    groups = [
        [_row(profile, metric, attacked, kinds) for metric in profile.headlines] for profile in profiles
    ]
    notes = _notes(profiles[0], bool(attacked), bool(kinds))
    return text_table('Robustness', headings, groups, notes)


def attacks_of(profiles: Sequence[Profile]) -> list[Condition]:
    """Return the attacks on any of the models, sorted by name and budget."""
    found = {condition for profile in profiles for condition in profile.plan.attacked}
    return sorted(found, key=lambda each: (ATTACKS.index(each.name), each.level))


def _row(
    profile: Profile, metric: str, attacked: Sequence[Condition], kinds: Sequence[str]
) -> list[str]:
    values = [profile.clean[metric], *(profile.value(condition, metric) for condition in attacked)]
    if kinds:
        of_kinds = [profile.summary(metric, KINDS[kind]) for kind in kinds]
        values += [each.mpc if each else math.nan for each in of_kinds]
        whole = profile.summary(metric)
        values += [math.nan if whole is None else whole.mpc]
        values += [math.nan if whole is None or whole.rpc is None else whole.rpc]
    texts = [profile.name, metric, str(profile.facts['images']['count'])]
    return [*texts, *map(percent, values)]


def _notes(profile: Profile, with_attacks: bool, with_corruptions: bool) -> list[str]:
    plan, notes = profile.plan, []
    if with_attacks:
        steps = f'; PGD with {plan.steps} steps' if 'pgd' in plan.attacks else ''
        notes.append(f'Attacks with norm {plan.norm}, by budget: {UNITS[plan.norm]}{steps}.')
    if with_corruptions:
        severities = ', '.join(map(str, plan.severities))
        count = f'{len(plan.corruptions)} of {len(CORRUPTIONS)} corruptions'
        notes.append(f'{SUMMARIES} Over {count}, severities {severities}.')
    return notes


def draw_robustness(profiles: Sequence[Profile]) -> Figure:
    """Draw curves of attacks above grids of corruptions; panels without results are omitted.

    Args:
        profiles: results of the same task and plan; budgets may differ.
    """
    attacks = list(dict.fromkeys(condition.name for condition in attacks_of(profiles)))
    corruptions = [name for name in CORRUPTIONS if name in profiles[0].plan.corruptions]
    severities = len(profiles[0].plan.severities)
    grid = max(severities * CELL_INCHES[0], 1.3) + 0.4
    heights = [CURVE_INCHES] if attacks else []
    heights += [len(corruptions) * CELL_INCHES[1] + 1.5] if corruptions else []
    width = max(
        (CURVE_INCHES + 0.6) * len(attacks), grid * len(profiles) + 2.6 if corruptions else 0, 4.5
    )
    figure = blank_figure(width, sum(heights))
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    if attacks:
        _draw_attacks(parts[0], profiles, attacks)
    if corruptions:
        _draw_corruptions(parts[-1], profiles, corruptions)
    return settle_layout(figure)


def _draw_attacks(part: SubFigure, profiles: Sequence[Profile], attacks: Sequence[str]) -> None:
    """Draw a panel for each attack; budget 0 is the clean image."""
    metric, plan = profiles[0].headlines[0], profiles[0].plan
    panels = part.subplots(1, len(attacks), squeeze=False, sharey=True)[0]
    for axes, attack in zip(panels, attacks, strict=True):
        for number, profile in enumerate(profiles):
            budgets = sorted({0.0, *profile.plan.budgets})
            values = [_under_attack(profile, attack, budget, metric) for budget in budgets]
            style = {'color': COLORS[number % len(COLORS)], 'marker': _MARKERS[number % len(_MARKERS)]}
            axes.plot(budgets, values, label=profile.name, markersize=4, linewidth=1.4, **style)
        title = f'PGD, {plan.steps} steps' if attack == 'pgd' else attack.upper()
        axes.set_title(f'{title}, {plan.norm}', fontsize=9, color=INK)
        axes.set_xlabel(f'budget: {UNITS[plan.norm]}', fontsize=7.5, color=INK)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.tick_params(colors=INK, labelsize=8)
        axes.spines[['top', 'right']].set_visible(False)
    panels[0].set_ylabel(f'{metric}, %', fontsize=9, color=INK)
    panels[-1].legend(fontsize=7, frameon=False, labelcolor=INK)


def _under_attack(profile: Profile, attack: str, budget: float, metric: str) -> float:
    return profile.value(Condition(attack, budget), metric) if budget else profile.clean[metric]


def _draw_corruptions(part: SubFigure, profiles: Sequence[Profile], corruptions: Sequence[str]) -> None:
    """Draw a grid for each model: values in percent, colors relative to the clean value."""
    panels = part.subplots(1, len(profiles), squeeze=False, sharey=True)[0]
    for axes, profile in zip(panels, profiles, strict=True):
        picture = _draw_grid(axes, profile, corruptions)
    panels[0].set_yticks(
        range(len(corruptions)), [name.replace('_', ' ') for name in corruptions], fontsize=8, color=INK
    )
    bar = part.colorbar(picture, ax=list(panels), aspect=30, pad=0.02)
    bar.set_label(f'{profiles[0].headlines[0]} in percent of the clean value', color=INK, fontsize=8)
    bar.ax.tick_params(colors=INK, labelsize=7)


def _draw_grid(axes: Axes, profile: Profile, corruptions: Sequence[str]) -> AxesImage:
    metric, severities = profile.headlines[0], profile.plan.severities
    values = np.array(
        [[profile.value(Condition(name, s), metric) for s in severities] for name in corruptions]
    )
    clean = profile.clean[metric]
    shares = 100 * values / clean if clean else np.full_like(values, math.nan)
    picture = axes.imshow(shares, norm=Normalize(0, 100), cmap=_COLORS, aspect='auto')
    for (row, column), value in np.ndenumerate(values):
        dark = shares[row, column] > 100 * _LIGHT or not math.isfinite(shares[row, column])
        color = INK if dark else 'white'
        axes.text(column, row, percent(value), ha='center', va='center', fontsize=7, color=color)
    axes.set_xticks(range(len(severities)), severities, fontsize=8, color=INK)
    axes.set_xlabel('severity', fontsize=8, color=INK)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(_heading(profile, metric), fontsize=7.5, color=INK)
    return picture


def _heading(profile: Profile, metric: str) -> str:
    summary = profile.summary(metric)
    name = profile.name.replace(' (', '\n(')
    if summary is None:
        return name
    relative = '' if summary.rpc is None else f', rPC {percent(summary.rpc)}'
    return f'{name}\nclean {percent(summary.clean)}, mPC {percent(summary.mpc)}{relative}'
