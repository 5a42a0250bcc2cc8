"""Results of an invariance analysis: curves of metrics, writing and reading."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.analysis.invariance.conditions import CONSISTENCY, UNITS
from evaluation.analysis.results import (
    SUBJECT,
    SUITE,
    defined,
    model_name,
    read_result,
    result_content,
    with_nan,
    with_null,
    write_content,
)
from evaluation.utils.errors import UserError

ANALYSIS = 'invariance'
TOOL = 'tools/analyze_invariance.py'


@dataclass(frozen=True)
class Curve:
    """Metrics over the strengths of one transform.

    Attributes:
        strengths: strengths in ascending order.
        metrics: by name, a value for each strength; NaN if undefined.
        directions: directions that the values are averaged over; empty if the transform has none.
    """

    strengths: Sequence[float]
    metrics: Mapping[str, Sequence[float]]
    directions: Sequence[str]


@dataclass(frozen=True)
class InvarianceResult:
    """Result for one model.

    Attributes:
        subject: model, checkpoint, task and images, from `Subject.as_json`.
        settings: settings of the comparison.
        shown: names of the metrics for figures and tables.
        unchanged: metrics on the original images.
        curves: curve of each transform.
        device: `cpu` or `cuda`.
    """

    subject: dict
    settings: dict
    shown: Sequence[str]
    unchanged: Mapping[str, float]
    curves: Mapping[str, Curve]
    device: str

    @property
    def name(self) -> str:
        """Name of the model."""
        return model_name(self.subject)

    @property
    def protocol(self) -> str:
        """Protocol for changing the images; older results do not state it and use the suite's."""
        return self.settings.get('protocol', SUITE)

    @property
    def mark(self) -> str:
        """Suffix for metric names, so that values of different protocols never share a name."""
        return '' if self.protocol == SUITE else f' ({self.protocol} protocol)'

    @property
    def compared(self) -> tuple:
        """Properties that comparable results share: images, settings and strengths."""
        steps = {name: list(curve.strengths) for name, curve in self.curves.items()}
        return self.subject['images']['sha256'], self.settings, steps


def write_result(result: InvarianceResult, file: Path) -> None:
    """Write the CSV next to `file`, then the JSON.

    Raises:
        UserError: a file cannot be written.
    """
    facts = {
        **result.subject,
        'settings': result.settings,
        'shown': list(result.shown),
        'unchanged': with_null(result.unchanged),
        'curves': {
            transform: {
                'strengths': list(curve.strengths),
                'directions': list(curve.directions),
                'metrics': {name: [*map(defined, values)] for name, values in curve.metrics.items()},
            }
            for transform, curve in result.curves.items()
        },
    }
    content = result_content(ANALYSIS, facts, *_columns(result), result.device)
    write_content(file, content, csv_rows(result))


def csv_rows(result: InvarianceResult) -> Iterator[list]:
    """Yield a row for each transform and strength, at full precision; None for undefined values."""
    names = [*next(iter(result.curves.values())).metrics]
    yield ['transform', 'strength', *names]
    for transform, curve in result.curves.items():
        for index, strength in enumerate(curve.strengths):
            values = (defined(curve.metrics[name][index]) for name in names)
            yield [transform, f'{strength:g}', *values]


def read_results(files: Sequence[Path]) -> list[InvarianceResult]:
    """Read JSON files that `write_result` wrote, for models of the same task.

    Raises:
        UserError: a file is missing or corrupt, or is not a result of this analysis, or the tasks
            differ.
    """
    results = [_read(file) for file in files]
    for file, result in zip(files, results, strict=True):
        tasks = [each.subject['task'] for each in (results[0], result)]
        if tasks[0] != tasks[1]:
            raise UserError(
                f'{file} is a result of {tasks[1]}, but {files[0]} of {tasks[0]}; compare results of '
                'the same task'
            )
    return results


def _columns(result: InvarianceResult) -> tuple[dict[str, float], str]:
    """Return values and note for tables of accuracies: the first consistency, mean over strengths."""
    consistency = next(name for name in result.shown if name.endswith(CONSISTENCY))
    figures, ranges = {}, []
    for transform, curve in result.curves.items():
        figures[f'{transform} {consistency}{result.mark}'] = mean_of_numbers(curve.metrics[consistency])
        least, most = curve.strengths[0], curve.strengths[-1]
        ranges.append(f'{transform} {least:g} to {most:g} {UNITS[transform]}')
    note = (
        f'{consistency.capitalize()}{result.mark}: agreement with the predictions for the original '
        f'images, mean over {", ".join(ranges)}; images: {result.subject["images"]["count"]}.'
    )
    return figures, note


def mean_of_numbers(values: Sequence[float]) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    numbers = [value for value in values if not math.isnan(value)]
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


def _read(file: Path) -> InvarianceResult:
    content = read_result(file, ANALYSIS, ANALYSIS, TOOL)
    curves = {}
    for transform, curve in content['curves'].items():
        metrics = {
            name: [math.nan if value is None else value for value in values]
            for name, values in curve['metrics'].items()
        }
        curves[transform] = Curve(curve['strengths'], metrics, curve['directions'])
    return InvarianceResult(
        subject={key: content[key] for key in SUBJECT},
        settings=content['settings'],
        shown=content['shown'],
        unchanged=with_nan(content['unchanged']),
        curves=curves,
        device=content['hardware']['device'],
    )
