"""Every task is complete, and known by its key, its configs and its models."""

import json
import subprocess
import sys

import pytest

from evaluation.metrics.evidence.records import Evidence
from evaluation.results.published import load_published
from evaluation.results.reading import read_result
from evaluation.tables.headings import metric_column, printed
from evaluation.tasks import TASKS, find_metric
from tests.commands import ROOT
from tests.evaluation.tables.test_table import document

every_task = pytest.mark.parametrize('task', TASKS.values(), ids=TASKS)


def figures(task):
    """Metrics of a result of a task."""
    return {name: 10.0 + place for place, name in enumerate(task.headlines)}


@every_task
def test_metrics_are_complete(task):
    assert TASKS[task.key] is task
    assert task.primary
    assert {metric.digits for metric in task.metrics} == {task.digits}
    for metric in task.metrics:
        # Tasks that share a name share the metric.
        assert find_metric(metric.name) == metric
        assert metric_column(metric.name).heading == metric.heading
    assert str(printed(12.3456, task.key)) == f'{12.3456:.{task.digits}f}'


@every_task
def test_references_lead_somewhere(task):
    assert issubclass(task.record_type, Evidence)
    assert callable(task.analysis_adapter.of)


@every_task
def test_configs_are_named_after_the_task(task):
    assert [*(ROOT / 'configs').glob(f'{task.key}_*.py')]


@every_task
def test_published_figures_are_of_primary_metrics(task):
    recipe = task.published
    assert {name for name, _ in recipe.figures} == {*task.primary}
    found = [entry for entry in load_published() if entry.task == recipe.name]
    assert found
    needed = {key for (_, is_augmented), key in recipe.figures.items() if not is_augmented}
    assert all(needed <= entry.figures.keys() for entry in found)


@every_task
def test_results_need_all_metrics_but_those_of_an_optional_output(task, tmp_path):
    file = tmp_path / 'result.json'
    whole = figures(task)
    optional = set(task.optional.metrics) if task.optional else set()
    for name in task.headlines:
        metrics = {key: value for key, value in whole.items() if key != name}
        assert task.missing_metric(metrics) == name
    least = {name: value for name, value in whole.items() if name not in optional}
    for metrics in (whole, least):
        file.write_text(json.dumps(document(task=task.key, metrics=metrics)))
        assert read_result(file).headline_metrics == tuple(metrics)


def test_models_are_known_by_one_head():
    heads = [head for task in TASKS.values() for head in task.heads]
    assert len(set(heads)) == len(heads)


@pytest.mark.parametrize(
    ('module', 'heavy'),
    [('evaluation.tasks', {'numpy', 'torch', 'mmengine'}), ('tools.table', {'torch', 'mmengine'})],
)
def test_tables_start_without_heavy_libraries(module, heavy):
    code = f'import sys, {module}; print(*{heavy} & set(sys.modules))'
    found = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert (found.stdout.strip(), found.stderr) == ('', '')
