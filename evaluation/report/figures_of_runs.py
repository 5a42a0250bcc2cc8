"""Figures of runs next to published ones, for the table and plots of a report."""

from collections.abc import Collection, Mapping, Sequence

from evaluation.report.analyses_and_speeds import Speed
from evaluation.report.reported_runs import ReportedRun
from evaluation.results.published import (
    UNIFIED,
    Entry,
    comparable_entries,
    comparable_flops,
    differs_in_recipe,
    find_figure,
    is_another_network,
    is_of_network,
    is_recipe_unknown,
    why_not_compared,
)
from evaluation.results.result import Result, shown_metrics
from evaluation.tables.columns import is_part, printed, training_text
from evaluation.tables.table import winners
from evaluation.tasks import TASKS, Recipe, find_metric


def metric_label(metric: str) -> str:
    """Return the heading of a metric; `box_APs` is `box AP small`."""
    if found := find_metric(metric):
        return found.heading
    for suffix, size in (('APs', 'small'), ('APm', 'medium'), ('APl', 'large')):
        if metric.endswith(suffix):
            return f'{metric[: -len(suffix)].replace("_", " ")}AP {size}'
    return metric.replace('_', ' ')


def describe_group(title: str, members: Sequence[ReportedRun]) -> dict:
    """Describe a task on a data set: its metrics, and the image size for FLOPs."""
    task = TASKS[members[0].result.task]
    metrics = shown_metrics([run.result for run in members])
    sizes = {(run.result.flops.height, run.result.flops.width) for run in members if run.result.flops}
    return {
        'title': title,
        'task': task.key,
        'metrics': [{'key': metric, 'label': metric_label(metric)} for metric in metrics],
        'compared': [metric for metric in task.primary if metric in metrics],
        'digits': task.digits,
        'flopsSizes': [f'{height}x{width}' for height, width in sorted(sizes)],
    }


def describe_run(
    run: ReportedRun, published: Sequence[Entry], speeds: Sequence[Speed], best: Collection[str]
) -> dict:
    """Describe an evaluation for table and plots.

    Args:
        run: the evaluation.
        published: figures to compare with.
        speeds: measured times.
        best: metrics in which the run is the best of its kind.
    """
    result = run.result
    return {
        'key': run.key,
        'label': run.label,
        'group': run.group,
        'task': result.task,
        'backbone': result.contestant.name,
        'recipe': result.recipe.name,
        'mixer': result.contestant.mixer,
        'scale': result.contestant.scale,
        'start': result.start,
        'seed': result.seed,
        'config': result.config,
        'tta': result.test_time_augmentation,
        'images': result.images,
        'isPart': is_part(result),
        'parameters': result.total_parameters,
        'flops': result.flops and result.flops.count,
        'uncounted': list(result.flops.uncounted_operators) if result.flops else [],
        'metrics': dict(result.metrics),
        'best': sorted(best),
        'published': _published(result, published),
        'notCompared': why_not_compared(published, result),
        'training': training_text(result),
        'trained': _share(result),
        'finished': result.training.finished,
        'created': result.created.isoformat(timespec='seconds'),
        'selected': run.is_selected,
        'path': str(result.path),
        'speeds': {
            str(index): milliseconds
            for index, speed in enumerate(speeds)
            if (milliseconds := speed.of(result)) is not None
        },
        'perClass': _per_class(result.per_class),
    }


def best_metrics(members: Sequence[ReportedRun]) -> dict[str, set[str]]:
    """Return the metrics in which each run is the best of its kind (bold in tables), by key of the run.

    Args:
        members: runs of one group; unselected runs are ignored.
    """
    found: dict[str, set[str]] = {run.key: set() for run in members}
    selected = [run for run in members if run.is_selected]
    for metric in shown_metrics([run.result for run in members]):
        best = winners(metric, [run.result for run in selected])
        for run in selected:
            if run.result in best.get(run.result.path, ()):
                found[run.key].add(metric)
    return found


def _share(result: Result) -> float | None:
    training = result.training
    return training.done / training.total if training.done is not None and training.total else None


def _published(result: Result, entries: Sequence[Entry]) -> dict:
    found = {}
    for metric in TASKS[result.task].primary:
        figure = find_figure(entries, result, metric)
        if figure is None:
            continue
        # Difference of the rounded figures, as in the tables.
        ours, theirs = (
            printed(result.metrics.get(metric), result.task),
            printed(figure.value, result.task),
        )
        found[metric] = {
            'value': figure.value,
            'architecture': figure.architecture if is_another_network(result, figure) else UNIFIED,
            'otherRecipe': differs_in_recipe(result, figure),
            'source': figure.source,
            'isRecipeUnknown': is_recipe_unknown(result),
            'difference': None if ours is None else float(ours - theirs),
        }
    return found


def _per_class(content: object) -> dict[str, dict[str, float | None]]:
    """Return metrics by class; values that are not numbers count as undefined."""
    if not isinstance(content, Mapping):
        return {}
    return {
        str(metric): {str(name): _percent(value) for name, value in classes.items()}
        for metric, classes in content.items()
        if isinstance(classes, Mapping)
    }


def _percent(value: object) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= 101 else None


def published_points(
    entries: Sequence[Entry], groups: Mapping[str, Sequence[ReportedRun]]
) -> list[dict]:
    """Return the published figures that a plot of accuracy against cost can show.

    They have the recipe and data set of at least one run of the group. They are drawn at the cost of our
    run of the same network if there is one, else at the cost that their source states.
    """
    points = []
    for title, members in groups.items():
        results = [run.result for run in members]
        is_augmented = all(result.test_time_augmentation for result in results)
        alike = [each for each in results if each.test_time_augmentation == is_augmented]
        # Recipes with the same title form one group.
        recipes = {result.recipe.name: result.recipe for result in alike}
        for entry in comparable_entries(entries, alike):
            own = [each for each in results if is_of_network(entry, each.contestant)]
            point = _point(entry, recipes[entry.recipe], own[0] if own else None, is_augmented)
            if point['metrics'] and (point['flops'] or point['parameters']):
                points.append({'group': title, **point})
    return points


def _point(entry: Entry, recipe: Recipe, own: Result | None, is_augmented: bool) -> dict:
    """Describe published figures for plots.

    Args:
        entry: the published figures.
        recipe: recipe of the runs that they are shown with.
        own: our run of the same network, if any.
        is_augmented: whether the runs use test-time augmentation.
    """
    keys = {m.name: m.published_key(is_augmented) for m in TASKS[recipe.task].metrics}
    return {
        'model': entry.model,
        'family': UNIFIED if entry.architecture == UNIFIED else entry.family or entry.model,
        'mixer': own.contestant.mixer if own else entry.mixer,
        'scale': own.contestant.scale if own else entry.scale,
        'architecture': entry.architecture,
        'source': entry.source,
        'flops': own.flops.count if own and own.flops else comparable_flops(entry, recipe),
        'parameters': own.total_parameters if own else entry.parameters,
        'metrics': {name: entry.figures[key] for name, key in keys.items() if key in entry.figures},
    }
