"""What analyses found of the weights that were evaluated: receptive fields, invariance, robustness."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.analysis.invariance import result as invariance
from evaluation.analysis.invariance.conditions import UNITS as STRENGTH_UNITS
from evaluation.analysis.receptive_field import result as receptive_field
from evaluation.analysis.robustness import profile as robustness
from evaluation.analysis.robustness.budgets import UNITS as BUDGET_UNITS
from evaluation.analysis.robustness.conditions import Condition
from evaluation.report.contribution_map import as_data_uri
from evaluation.report.problems import Problems
from evaluation.report.training_curves import significant
from evaluation.tables.analyses import COLUMNS, FOLDER


@dataclass(frozen=True)
class Found:
    """One analysis of one model.

    Attributes:
        kind: `erf`, `invariance` or `robustness`.
        weights_sha256: digest of the weights, as in `result.json`.
        created: ISO 8601 time.
        basis: what must be equal in analyses that are compared; images and settings.
        note: what its figures in tables mean.
        figures: for tables, in percent.
        content: what the page draws.
        file: where it was read.
    """

    kind: str
    weights_sha256: str
    created: str
    basis: str
    note: str
    figures: Mapping[str, float | None]
    content: dict
    file: Path


def load_analyses(folders: Iterable[Path], problems: Problems) -> list[Found]:
    """Every analysis at any depth below some folders, the oldest first.

    Files that are malformed are left out and named; those of other kinds are no problem.
    """
    files = {
        file.resolve(): file for folder in folders for file in Path(folder).rglob(f'{FOLDER}/*.json')
    }
    found = []
    for _, file in sorted(files.items()):
        with problems.leaving_out(file):
            each = _read(file)
            if each:
                found.append(each)
    return sorted(found, key=lambda each: each.created)


def newest(analyses: Sequence[Found], weights_sha256: str | None) -> dict[str, Found]:
    """The newest analysis of each kind of some weights, by kind.

    Args:
        analyses: the oldest first.
        weights_sha256: digest of the weights; None where it is not known.
    """
    return {each.kind: each for each in analyses if each.weights_sha256 == weights_sha256}


def _read(file: Path) -> Found | None:
    content = json.loads(file.read_text(encoding='utf-8'))
    known = _READERS.get(content['analysis'])
    if known is None:
        return None
    kind, read = known
    basis, shown = read(file)
    columns = content[COLUMNS]
    figures = {str(name): _number(value) for name, value in columns['figures'].items()}
    # NaN and infinity, which JSON has not, are a fault of this file and not of the page.
    json.dumps([shown, figures], allow_nan=False)
    return Found(
        kind=kind,
        weights_sha256=content['checkpoint']['weights_sha256'],
        created=str(content['created']),
        basis=basis,
        note=str(columns['note']),
        figures=figures,
        content=shown,
        file=file,
    )


def _read_receptive_field(file: Path) -> tuple[str, dict]:
    maps = receptive_field.read_maps(file)
    targets = [
        {
            'name': target.name + receptive_field.mark_of(maps.protocol),
            'image': as_data_uri(target.mean),
            'height': target.mean.shape[0],
            'width': target.mean.shape[1],
            'areas': {
                str(share): significant(ratio)
                for share, ratio in target.area_ratios.items()
                if ratio is not None
            },
        }
        for target in maps.targets
    ]
    return f'{maps.images} {maps.size} {maps.protocol}', {'size': maps.size, 'targets': targets}


def _read_invariance(file: Path) -> tuple[str, dict]:
    (result,) = invariance.read_results([file])
    curves = {
        transform: {
            'unit': STRENGTH_UNITS[transform],
            'strengths': list(curve.strengths),
            'metrics': {
                name + result.mark: [_number(v) for v in curve.metrics[name]] for name in result.shown
            },
        }
        for transform, curve in result.curves.items()
    }
    names = [name + result.mark for name in result.shown]
    shown = {'images': result.subject['images']['count'], 'shown': names, 'curves': curves}
    return json.dumps(result.compared, sort_keys=True), shown


def _read_robustness(file: Path) -> tuple[str, dict]:
    profile = robustness.read_profile(file)
    metric, plan = profile.headlines[0], profile.plan
    budgets = [0.0, *sorted(filter(None, plan.budgets))]
    attacks = {
        name: [
            _number(profile.value(Condition(name, budget), metric) if budget else profile.clean[metric])
            for budget in budgets
        ]
        for name in plan.attacks
    }
    corruptions = {
        name: [_number(profile.value(Condition(name, level), metric)) for level in plan.severities]
        for name in plan.corruptions
    }
    summary = profile.summary(metric)
    basis = [profile.facts['images']['sha256'], plan.norm, plan.steps, list(plan.severities)]
    return json.dumps(basis), {
        'images': profile.facts['images']['count'],
        'metric': metric,
        'clean': _number(profile.clean[metric]),
        'norm': plan.norm,
        'unit': BUDGET_UNITS[plan.norm],
        'steps': plan.steps,
        'budgets': budgets,
        'attacks': attacks,
        'severities': list(plan.severities),
        'corruptions': corruptions,
        'mpc': _number(summary.mpc) if summary else None,
        'rpc': _number(summary.rpc) if summary else None,
    }


_READERS: dict[str, tuple[str, Callable[[Path], tuple[str, dict]]]] = {
    receptive_field.ANALYSIS: ('erf', _read_receptive_field),
    invariance.ANALYSIS: ('invariance', _read_invariance),
    robustness.ANALYSIS: ('robustness', _read_robustness),
}


def _number(value: float | None) -> float | None:
    # Unrounded, since the page prints it with the rule of the tables.
    return None if value is None or not math.isfinite(value) else float(value)
