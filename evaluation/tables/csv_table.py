"""Results and differences as CSV, with unrounded numbers."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from types import MappingProxyType

from evaluation.analysis.results import AnalysisFigures, figures_of
from evaluation.results.published import Entry, comparable_flops, find_figure, why_not_compared
from evaluation.results.result import Flops, Result, shown_metrics
from evaluation.results.selection import table_of
from evaluation.statistics.comparison import Comparison, Uncertainty
from evaluation.tables.published_figures import PublishedRow, published_rows
from evaluation.tasks import TASKS
from evaluation.utils.errors import UserError

# The runs of a unified network, its comparison with another one by metric, and the other one's runs.
Compared = tuple[Sequence[Result], Sequence[Comparison], Sequence[Result]]


def to_csv(
    results: Sequence[Result],
    published: Sequence[Entry],
    analyses: Sequence[AnalysisFigures] = (),
    uncertainty: Mapping[Path, Uncertainty] = MappingProxyType({}),
    field: Sequence[Entry] = (),
) -> str:
    """Return CSV: a header and one row per result, in the given order; undefined values are empty.

    Rows of the published results `field` follow the results of each table. The columns `kind` and
    `source` tell them apart.

    Raises:
        UserError: the results belong to several tasks, which have different columns.
    """
    task = single_task(results)
    others = {metric for result in results for metric in result.metrics}
    others -= set(TASKS[task].headlines)
    metrics = (*shown_metrics(results), *sorted(others))
    analyzed = [figures_of(analyses, result.weights_sha256) for result in results]
    headings = dict.fromkeys(heading for figures in analyzed for heading in figures)
    records = [
        _record(result, metrics, published)
        | _intervals(uncertainty.get(result.path))
        | {heading: figures.get(heading) for heading in headings}
        for result, figures in zip(results, analyzed, strict=True)
    ]
    if field:
        records = _with_published_rows(results, records, field)
    return _written(records)


def _written(records: Sequence[dict]) -> str:
    text = io.StringIO()
    # A detector without masks has fewer columns.
    columns = dict.fromkeys(key for record in sorted(records, key=len, reverse=True) for key in record)
    writer = csv.DictWriter(text, [*columns], lineterminator='\n')
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _with_published_rows(
    results: Sequence[Result], records: Sequence[dict], field: Sequence[Entry]
) -> list[dict]:
    """Return the records of results and of published results, by table."""
    found = []
    paired = zip(results, records, strict=True)
    for _, group in groupby(paired, key=lambda pair: table_of(pair[0])):
        members = list(group)
        found += [{**record, 'kind': 'measured', 'source': None} for _, record in members]
        found += map(_published_record, published_rows([result for result, _ in members], field))
    return found


def _published_record(row: PublishedRow) -> dict:
    entry, flops = row.entry, comparable_flops(row.entry, row.recipe)
    return {
        'task': row.recipe.task,
        'dataset': row.recipe.dataset,
        'recipe': entry.recipe,
        'backbone': entry.model,
        'family': entry.family,
        'mixer': entry.mixer,
        'scale': entry.scale,
        'total_parameters': _whole(entry.parameters),
        'flops': _whole(flops),
        **row.metrics,
        'test_time_augmentation': str(row.is_augmented).lower(),
        'kind': 'published',
        'source': entry.source,
    }


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def single_task(results: Sequence[Result]) -> str:
    """Return the task of all results.

    Raises:
        UserError: the results belong to several tasks, which have different columns.
    """
    tasks = sorted({result.task for result in results})
    if len(tasks) > 1:
        raise UserError(
            f'CSV supports only one task, found {" and ".join(tasks)}; choose one with --task'
        )
    return tasks[0]


def _record(result: Result, metrics: Sequence[str], published: Sequence[Entry]) -> dict:
    record = {
        'task': result.task,
        'dataset': result.dataset,
        'recipe': result.recipe.name,
        'backbone': result.contestant.name,
        'family': result.contestant.family,
        'mixer': result.contestant.mixer,
        'scale': result.contestant.scale,
        'total_parameters': result.total_parameters,
        'backbone_parameters': result.backbone_parameters,
        **_flops(result.flops),
        **{metric: result.metrics.get(metric) for metric in metrics},
        **(result.calibration or {}),
    }
    for metric in TASKS[result.task].primary:
        if metric in metrics:
            record |= _comparison(result, metric, published)
    return record | {
        'not_compared': why_not_compared(published, result),
        'config': result.config,
        'epoch': result.epoch,
        'max_epochs': result.max_epochs,
        'iteration': result.iteration,
        'max_iterations': result.max_iterations,
        'finished': str(result.training.finished).lower(),
        'images': result.images,
        'variant': result.variant,
        'initialization': result.initialization,
        'test_time_augmentation': str(result.test_time_augmentation).lower(),
        'seed': result.seed,
        'checkpoint': result.checkpoint,
        'checkpoint_sha256': result.checkpoint_sha256,
        'weights_sha256': result.weights_sha256,
        'wall_time_seconds': result.wall_time_seconds,
        'created': result.created.isoformat(),
        'result': result.path.as_posix(),
    }


def _intervals(uncertainty: Uncertainty | None) -> dict:
    """Return the ends of each metric's interval; None if undefined."""
    found = {}
    for metric, interval in (uncertainty.intervals if uncertainty else {}).items():
        for name, value in (('low', interval.low), ('high', interval.high)):
            found[f'{metric}_{name}'] = _number(value)
    return found


def _flops(flops: Flops | None) -> dict:
    if flops is None:
        return dict.fromkeys(('flops', 'flops_height', 'flops_width', 'flops_without'))
    return {
        'flops': flops.count,
        'flops_height': flops.height,
        'flops_width': flops.width,
        'flops_without': ' '.join(flops.uncounted_operators),
    }


def _comparison(result: Result, metric: str, published: Sequence[Entry]) -> dict:
    figure = find_figure(published, result, metric)
    ours = result.metrics.get(metric)
    return {
        f'published_{metric}': figure and figure.value,
        # Decimal, so that 45.3 - 44.3 is 1.0 and not 0.9999999999999996.
        f'difference_{metric}': None
        if figure is None or ours is None
        else Decimal(repr(ours)) - Decimal(repr(figure.value)),
        f'published_{metric}_architecture': figure and figure.architecture,
        f'published_{metric}_source': figure and figure.source,
    }


def differences_csv(compared: Sequence[Compared], family: str) -> str:
    """Return CSV: a header and one row per pair of networks and metric; undefined values are empty.

    Args:
        compared: comparisons of unified networks with those of a family, at least one.
        family: family of the other networks.
    """
    return _written(
        [
            {
                'task': a[0].task,
                'dataset': a[0].dataset,
                'recipe': a[0].recipe.name,
                'mixer': a[0].contestant.mixer,
                'scale': a[0].contestant.scale,
                'backbone': a[0].contestant.name,
                'against': b[0].contestant.name,
                'family': family,
                **_differences(each),
            }
            for a, found, b in compared
            for each in found
        ]
    )


def _differences(comparison: Comparison) -> dict:
    difference, test = comparison.difference, comparison.test
    return {
        'metric': comparison.metric,
        'value': _number(comparison.a.interval.value),
        'value_against': _number(comparison.b.interval.value),
        'difference': _number(difference.value),
        'difference_low': _number(difference.low),
        'difference_high': _number(difference.high),
        'p_value': test and test.p_value,
        'told_apart': str(comparison.is_told_apart).lower(),
        'images': comparison.images,
        'resamples': comparison.resamples,
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
