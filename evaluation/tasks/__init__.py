"""Tasks: a record of each, by the key that results and names of configs use."""

from evaluation.tasks.classification import CLASSIFICATION
from evaluation.tasks.instance_segmentation import INSTANCE_SEGMENTATION
from evaluation.tasks.semantic_segmentation import SEMANTIC_SEGMENTATION
from evaluation.tasks.task import Metric, OptionalOutput, PublishedRecipe, Task

__all__ = ['TASKS', 'Metric', 'OptionalOutput', 'PublishedRecipe', 'Task', 'find_metric']

# In the order of tables.
TASKS: dict[str, Task] = {
    task.key: task for task in (INSTANCE_SEGMENTATION, SEMANTIC_SEGMENTATION, CLASSIFICATION)
}


def find_metric(name: str) -> Metric | None:
    """Return the metric of this name of any task; None where no table shows one."""
    metrics = (metric for task in TASKS.values() for metric in task.metrics)
    return next((metric for metric in metrics if metric.name == name), None)
