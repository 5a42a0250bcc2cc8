"""Losses, learning rate and metrics over a training, from its logged scalars."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.report.reported_runs import Problems

POINTS = 200
SCALARS = 'vis_data/scalars.json'
# mmengine logs metrics of COCO as fractions, and -1 if they are undefined.
_COCO_KINDS = {'bbox': 'box', 'segm': 'mask'}
_SIGNIFICANT = 5
_LARGEST = 1e300


@dataclass
class LoggedCurve:
    """Values over iterations, in increasing order of `steps`."""

    steps: list[int] = field(default_factory=list)
    values: list[float | None] = field(default_factory=list)

    def cut(self, step: int) -> None:
        """Drop everything from a step on."""
        kept = sum(each < step for each in self.steps)
        del self.steps[kept:], self.values[kept:]


@dataclass
class Curves:
    """Scalars of a training and its evaluations, by name."""

    training: dict[str, LoggedCurve] = field(default_factory=dict)
    evaluation: dict[str, LoggedCurve] = field(default_factory=dict)

    def cut(self, step: int) -> None:
        """Drop everything from a step on."""
        for curve in (*self.training.values(), *self.evaluation.values()):
            curve.cut(step)

    def as_json(self) -> dict:
        """Return thinned and rounded curves, without empty ones."""
        return {
            kind: {
                name: _curve_json(curve)
                for name, curve in curves.items()
                if any(value is not None for value in curve.values)
            }
            for kind, curves in (('training', self.training), ('evaluation', self.evaluation))
        }


def read_curves(folder: Path, started: str | None, problems: Problems) -> Curves | None:
    """Read the scalars of a run over all its starts.

    A resumed run has one file per start. If a start begins before the end of an earlier one, its steps
    replace the overlapping steps; so a run that started over hides the earlier one.

    Args:
        folder: folder of the run.
        started: folder name of the last start to include; None for all starts.
        problems: collects malformed files; a truncated last line is accepted, as after a kill.

    Returns:
        The curves, or None if no training was logged.
    """
    curves = Curves()
    for file in sorted(folder.glob(f'*/{SCALARS}')):
        if started is None or file.parent.parent.name <= started:
            with problems.leaving_out(file):
                _append(curves, _read_lines(file, problems))
    return curves if curves.training else None


def _read_lines(file: Path, problems: Problems) -> list[dict]:
    lines = file.read_text(encoding='utf-8').splitlines()
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            if type(entry) is not dict:
                raise ValueError('not an object')
            found.append(entry)
        except (ValueError, RecursionError):
            # A killed process may leave a truncated last line.
            if number < len(lines):
                problems.add(f'skipped: {file}: line {number} is malformed')
    return found


def _append(curves: Curves, entries: Sequence[dict]) -> None:
    """Append the scalars of one start."""
    training = [entry['step'] for entry in entries if _is_training(entry)]
    if not training:
        return
    curves.cut(min(training))
    last = 0
    for entry in entries:
        if _is_training(entry):
            last = entry['step']
            _add(curves.training, last, {n: v for n, v in entry.items() if _is_shown(n)})
        elif last:
            # mmengine numbers evaluations by epoch or iteration; place all at iterations.
            _add(curves.evaluation, last, _metrics(entry))


def _is_training(entry: dict) -> bool:
    return type(entry.get('step')) is int and 'lr' in entry


def _is_shown(name: str) -> bool:
    return name in ('lr', 'grad_norm') or 'loss' in name


def _metrics(entry: dict) -> dict[str, float | None]:
    """Return metrics in percent, with the names used in the suite."""
    metrics = {}
    for name, value in entry.items():
        if name in ('step', 'time', 'data_time', 'memory', 'epoch', 'iter') or not _is_number(value):
            continue
        kind, _, rest = name.removeprefix('coco/').partition('_mAP')
        if name.startswith('coco/') and kind in _COCO_KINDS:
            suffix = rest.removeprefix('_')
            metrics[f'{_COCO_KINDS[kind]}_AP{suffix}'] = 100 * value if value >= 0 else None
        else:
            metrics[name] = value
    return metrics


def _add(curves: dict[str, LoggedCurve], step: int, values: dict) -> None:
    for name, value in values.items():
        curve = curves.setdefault(name, LoggedCurve())
        if curve.steps and curve.steps[-1] >= step:
            curve.cut(step)
        curve.steps.append(step)
        curve.values.append(_finite(value))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _finite(value: object) -> float | None:
    """Return a number; None if it is undefined, infinite or too large to draw."""
    return float(value) if _is_number(value) and abs(value) <= _LARGEST else None


def _curve_json(curve: LoggedCurve) -> dict:
    kept = thinned(len(curve.steps), POINTS)
    return {
        'x': [curve.steps[index] for index in kept],
        'y': [significant(curve.values[index]) for index in kept],
    }


def thinned(count: int, most: int) -> list[int]:
    """Return at most `most` of `count` indices, evenly spaced, including the first and the last.

    Args:
        count: number of indices.
        most: maximum, at least 1; if 1, only the first index is returned.
    """
    if count <= most:
        return list(range(count))
    if most == 1:
        return [0]
    return [round(index * (count - 1) / (most - 1)) for index in range(most)]


def significant(value: float | None, digits: int = _SIGNIFICANT) -> float | None:
    """Round a number to a few significant digits, to shorten the JSON."""
    return None if value is None else float(f'{value:.{digits}g}')
