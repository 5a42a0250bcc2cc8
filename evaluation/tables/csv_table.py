"""Results as CSV, one row per result, with unrounded numbers."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

from evaluation.analysis.results import AnalysisFigures, figures_of
from evaluation.results.published import Entry, find_figure, why_not_compared
from evaluation.results.result import Flops, Result, shown_metrics
from evaluation.statistics.comparison import Uncertainty
from evaluation.tasks import TASKS
from evaluation.utils.errors import UserError


def to_csv(
    results: Sequence[Result],
    published: Sequence[Entry],
    analyses: Sequence[AnalysisFigures] = (),
    uncertainty: Mapping[Path, Uncertainty] = MappingProxyType({}),
) -> str:
    """Return CSV: a header and one row per result, in the given order; undefined values are empty.

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
    text = io.StringIO()
    # A detector without masks has fewer columns.
    columns = dict.fromkeys(key for record in sorted(records, key=len, reverse=True) for key in record)
    writer = csv.DictWriter(text, [*columns], lineterminator='\n')
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


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
            found[f'{metric}_{name}'] = None if math.isnan(value) else value
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
