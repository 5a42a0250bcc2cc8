"""How tables write tasks, metrics and figures."""

from collections.abc import Sequence
from decimal import Decimal

from evaluation.results.result import Result
from evaluation.tasks import TASKS, find_metric
from evaluation.utils.rounding import fixed
from evaluation.utils.text_tables import Column


def metric_column(name: str, prefix: str = '', latex_prefix: str | None = None) -> Column:
    """Return a metric's column, with text before its heading where there is some.

    Args:
        name: of the metric.
        prefix: to put before the heading.
        latex_prefix: the same in LaTeX, if it differs.
    """
    metric = find_metric(name)
    before = prefix if latex_prefix is None else latex_prefix
    return Column(prefix + metric.heading, before + metric.latex)


def printed(value: float | None, task: str) -> Decimal | None:
    """Round to what tables print, so that ties and differences are those that a reader sees."""
    return None if value is None else Decimal(fixed(value, TASKS[task].digits))


def title_of(results: Sequence[Result]) -> str:
    """Title of a table of results of one task and data set."""
    task = TASKS[results[0].task]
    is_whole = all(result.headline_metrics == task.headlines for result in results)
    title = results[0].recipe.title
    # A page of its own, or a recipe of its own in a leaf, has a title that fits.
    if not is_whole and task.earlier and title == task.earlier.recipe.title:
        title = task.optional.title
    return f'{title} on {results[0].dataset}'
