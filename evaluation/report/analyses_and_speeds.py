"""Results of other commands: receptive fields, invariance, robustness and speed."""

import base64
import io
import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from evaluation.analysis import shift
from evaluation.analysis.invariance import result as invariance
from evaluation.analysis.invariance.conditions import UNITS as STRENGTH_UNITS
from evaluation.analysis.receptive_field import result as receptive_field
from evaluation.analysis.receptive_field.presentation import FAINTEST
from evaluation.analysis.results import read_figures, result_files
from evaluation.analysis.robustness import result as robustness
from evaluation.analysis.robustness.attacks import UNITS as BUDGET_UNITS
from evaluation.analysis.robustness.conditions import Condition
from evaluation.report.reported_runs import Problems
from evaluation.report.training_curves import significant
from evaluation.results.result import Result

SIDE = 96
# Colors of a palette picture; more would be indistinguishable in such a small map.
_LEVELS = 64
_COLORS = 'magma'
# Keys of a benchmark file, in the order in which they are written.
_KEYS = {'machine', 'dtype', 'backward', 'compiled', 'scope', 'rounds', 'results'}
# Skip large JSON files; benchmarks are smaller than this.
_MOST_BYTES = 50_000_000


def as_data_uri(mean: np.ndarray) -> str:
    """Return a map of contributions as PNG, on a logarithmic scale from 1e-4 of the largest.

    Args:
        mean: contributions, (H, W); larger maps are averaged down to `SIDE` pixels.

    Raises:
        ValueError: the map is not two-dimensional, is non-finite, or is zero.
    """
    if mean.ndim != 2 or not np.isfinite(mean).all() or mean.max() <= 0:
        raise ValueError('a map of contributions is empty or non-finite')
    small = _averaged(mean)
    shares = np.clip(small / small.max(), FAINTEST, 1.0)
    levels = np.round((1 - np.log(shares) / np.log(FAINTEST)) * (_LEVELS - 1)).astype(np.uint8)
    picture = Image.fromarray(levels, mode='P')
    colors = matplotlib.colormaps[_COLORS](np.linspace(0, 1, _LEVELS))[:, :3]
    picture.putpalette(np.round(255 * colors).astype(np.uint8).tobytes())
    content = io.BytesIO()
    picture.save(content, 'PNG', optimize=True)
    return 'data:image/png;base64,' + base64.b64encode(content.getvalue()).decode()


def _averaged(mean: np.ndarray) -> np.ndarray:
    """Average over blocks, as small as possible with at most `SIDE` blocks along the longer side."""
    block = -(-max(mean.shape) // SIDE)
    if block == 1:
        return mean
    starts = [np.arange(0, length, block) for length in mean.shape]
    sums = np.add.reduceat(np.add.reduceat(mean, starts[0], axis=0), starts[1], axis=1)
    sizes = [np.diff([*at, length]) for at, length in zip(starts, mean.shape, strict=True)]
    return sums / np.outer(*sizes)


@dataclass(frozen=True)
class Found:
    """One analysis of one model.

    Attributes:
        kind: `erf`, `invariance`, `robustness` or `shift`.
        weights_sha256: digest of the weights, as in `result.json`.
        created: ISO 8601 time.
        basis: images and settings; analyses with the same basis are comparable.
        note: explanation of the figures.
        figures: figures for tables, in percent.
        content: data for the page.
        file: source file.
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
    """Load every analysis at any depth below some folders, oldest first.

    Malformed files are skipped and reported; unrelated files are ignored.
    """
    found = []
    for file in result_files(folders):
        with problems.leaving_out(file):
            each = _read(file)
            if each:
                found.append(each)
    return sorted(found, key=lambda each: each.created)


def newest(analyses: Sequence[Found], weights_sha256: str | None) -> dict[str, Found]:
    """Return the newest analysis of each kind for some weights, by kind.

    Args:
        analyses: analyses, oldest first.
        weights_sha256: digest of the weights; None if unknown.
    """
    return {each.kind: each for each in analyses if each.weights_sha256 == weights_sha256}


def _read(file: Path) -> Found | None:
    content = json.loads(file.read_text(encoding='utf-8'))
    known = _READERS.get(content['analysis'])
    if known is None:
        return None
    kind, read = known
    basis, shown = read(file)
    # Reject NaN and infinity here, as an error of this file; they would break the JSON of the page.
    json.dumps(shown, allow_nan=False)
    figures = read_figures(file)
    return Found(
        kind=kind,
        weights_sha256=figures.weights_sha256,
        created=str(content['created']),
        basis=basis,
        note=figures.note,
        figures=figures.figures,
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


def _read_shift(file: Path) -> tuple[str, dict]:
    content = json.loads(file.read_text(encoding='utf-8'))
    digests = {name: each['data_sha256'] for name, each in content['domains'].items()}
    return json.dumps([content['suite']['key'], digests], sort_keys=True), {}


_READERS: dict[str, tuple[str, Callable[[Path], tuple[str, dict]]]] = {
    receptive_field.ANALYSIS: ('erf', _read_receptive_field),
    invariance.ANALYSIS: ('invariance', _read_invariance),
    robustness.ANALYSIS: ('robustness', _read_robustness),
    shift.ANALYSIS: ('shift', _read_shift),
}


def _number(value: float | None) -> float | None:
    # Unrounded: the page rounds like the tables.
    return None if value is None or not math.isfinite(value) else float(value)


@dataclass(frozen=True)
class Speed:
    """Times under one condition.

    Attributes:
        condition: description of the pass, input size and machine.
        milliseconds: median over the rounds, by name of the row.
        experiments: names of recipe and contestant, by name of the row.
        file: source file.
    """

    condition: str
    milliseconds: Mapping[str, float]
    experiments: Mapping[str, Mapping[str, str]]
    file: Path

    def of(self, result: Result) -> float | None:
        """Return the time of the contestant and recipe of a result; None if it was not measured.

        In files of earlier versions, rows are only identified by the names of config files.
        """
        if not self.experiments:
            return self.milliseconds.get(result.config)
        wanted = {'recipe': result.recipe.name, 'contestant': result.contestant.name}
        rows = (name for name, experiment in self.experiments.items() if experiment == wanted)
        return next((self.milliseconds[name] for name in rows if name in self.milliseconds), None)


def load_speeds(folders: Iterable[Path], problems: Problems) -> list[Speed]:
    """Load every benchmark (`tools/benchmark.py --json`) at any depth below some folders."""
    files = {file.resolve(): file for folder in folders for file in Path(folder).rglob('*.json')}
    found = []
    for _, file in sorted(files.items()):
        if file.name == 'result.json' or not _may_be_benchmark(file):
            continue
        with problems.leaving_out(file):
            content = json.loads(file.read_text(encoding='utf-8'))
            found += _speeds(content, file)
    return found


def _may_be_benchmark(file: Path) -> bool:
    """Return whether a file begins like a benchmark, without reading all of it."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            return False
        with open(file, encoding='utf-8') as stream:
            return '"machine"' in stream.read(200)
    except (OSError, UnicodeDecodeError):
        return False


def _speeds(content: object, file: Path) -> list[Speed]:
    if type(content) is not dict or not content.keys() >= _KEYS:
        raise ValueError('not a benchmark of this version of the suite')
    found = []
    for result in content['results']:
        size = result['size']
        times = {
            row['name']: _milliseconds(row['seconds'])
            for row in result['rows']
            if not row['ran_out_of_memory']
        }
        found.append(Speed(_condition(content, size), times, content.get('experiments') or {}, file))
    return found


def _milliseconds(seconds: Sequence[float]) -> float:
    median = 1e3 * statistics.median(seconds)
    if not math.isfinite(median):
        raise ValueError('a time is non-finite')
    return median


def _condition(content: Mapping, size: Mapping) -> str:
    images = 'image' if size['batch'] == 1 else 'images'
    facts = [
        'forward and backward' if content['backward'] else 'forward',
        content['scope'].partition(':')[0],
        f'{size["batch"]} {images} of {size["height"]}x{size["width"]}',
        content['dtype'],
        *(['compiled'] if content['compiled'] else []),
        content['machine']['name'],
    ]
    return ', '.join(facts)
