"""Tasks by key, recipes and contestants."""

from evaluation.tasks.classification import CLASSIFICATION
from evaluation.tasks.instance_segmentation import INSTANCE_SEGMENTATION
from evaluation.tasks.semantic_segmentation import SEMANTIC_SEGMENTATION
from evaluation.tasks.task import (
    FAIR,
    FROZEN,
    LINEAR,
    OF_THE_COMMAND,
    PROTOCOLS,
    RELEASED,
    Contestant,
    Earlier,
    Metric,
    OptionalOutput,
    Recipe,
    Task,
    stated_by_command,
)

__all__ = [
    'FAIR',
    'FROZEN',
    'LINEAR',
    'OF_THE_COMMAND',
    'PROTOCOLS',
    'RELEASED',
    'TASKS',
    'Contestant',
    'Earlier',
    'Metric',
    'OptionalOutput',
    'Recipe',
    'Task',
    'find_metric',
    'find_task',
    'stated_by_command',
]

# In the order of tables.
TASKS: dict[str, Task] = {
    task.key: task for task in (INSTANCE_SEGMENTATION, SEMANTIC_SEGMENTATION, CLASSIFICATION)
}


def find_task(key: object) -> Task | None:
    """Return the task with this key, current or former; None if there is none."""
    keys = {task.earlier.key: task for task in TASKS.values() if task.earlier}
    return (keys | TASKS).get(key) if isinstance(key, str) else None


def find_metric(name: str) -> Metric | None:
    """Return the metric with this name, of any task; None if no table shows it."""
    metrics = (metric for task in TASKS.values() for metric in task.metrics)
    return next((metric for metric in metrics if metric.name == name), None)
