"""A new task in the registry is read, shown and compared like any other."""

import csv
import io
import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from evaluation.metrics.records import Evidence
from evaluation.results.published import find_figure, load_published, why_not_compared
from evaluation.results.reading import read_result
from evaluation.results.schema import fields_table
from evaluation.statistics.comparison import compare, uncertainties
from evaluation.tables.comparison import comparison_text
from evaluation.tables.table import render
from evaluation.tasks import TASKS, Metric, Task
from evaluation.tasks.instance_segmentation import BOX_METRICS
from evaluation.utils.errors import UserError
from tests.evaluation.metrics.problems import instance_evidence, write_result

BOXES = Task(
    key='boxes',
    metrics=BOX_METRICS,
    record='evaluation.metrics.instance_records:InstanceEvidence',
    heads=(),
    flops_size=(800, 1280),
    analysis='evaluation.analysis.detectors:Detection',
    overlaps=('box',),
)
RECIPE = {'name': 'retinanet_1x', 'title': 'RetinaNet', 'dataset': 'COCO val2017', 'images': 12}


@dataclass(frozen=True)
class PointEvidence(Evidence):
    """Custom records: whether the keypoints of each image are found."""

    images: np.ndarray
    classes: tuple[str, ...]
    found: np.ndarray

    def metrics_of(self, wanted):
        return lambda weights: {wanted: 100 * float(weights @ self.found / weights.sum())}

    def right_images(self, metric):
        return self.found.astype(bool)


POINTS = Task(
    key='keypoints',
    metrics=(Metric('PCK', 'PCK', 'PCK', 'PCK', digits=2, is_primary=True, is_share=True),),
    record=f'{__name__}:PointEvidence',
    heads=(),
    flops_size=(256, 192),
    analysis='evaluation.analysis.detectors:Detection',
)


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Return results of two box detectors, with a custom task."""
    monkeypatch.setitem(TASKS, BOXES.key, BOXES)
    files = [
        write_result(
            tmp_path / backbone,
            instance_evidence(images=12, detector=number, kinds=('bbox',)),
            backbone,
            task=BOXES.key,
            recipe=RECIPE,
        )
        for number, backbone in enumerate(('dcn_tiny', 'swin_tiny'))
    ]
    return [read_result(file) for file in files]


def test_schema_accepts_it(results, tmp_path):
    assert '`boxes`' in fields_table(3)
    # Earlier versions knew three.
    assert '`boxes`' not in fields_table(2)
    content = json.loads(results[0].path.read_text()) | {'task': 'unknown'}
    file = tmp_path / 'result.json'
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"task 'unknown' is not one of instance_seg.*, boxes"):
        read_result(file)
    content = content | {'task': BOXES.key, 'metrics': {'box_AP': 1.0, 'box_AP50': 2.0}}
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"'metrics\.box_AP75' is missing"):
        read_result(file)


def test_tables_show_it(results):
    drawn = uncertainties(results, resamples=200)
    text = render(results, load_published(), 'markdown', uncertainty=drawn)
    assert 'RetinaNet on COCO val2017' in text
    assert ' box AP75 |' in text
    assert 'mask' not in text
    assert 'published box AP' not in text
    rows = list(csv.DictReader(io.StringIO(render(results, load_published(), 'csv'))))
    assert {row['task'] for row in rows} == {BOXES.key}
    assert {row['recipe'] for row in rows} == {'retinanet_1x'}
    shown = {row['backbone']: float(row['box_AP']) for row in rows}
    assert shown == {result.contestant.name: result.metrics['box_AP'] for result in results}


def test_its_published_figures_are_found(results, tmp_path):
    """The key of a metric in the file is enough once the recipe states all needed facts."""
    entry = {'model': 'dcn_tiny', 'recipe': 'retinanet_1x', 'architecture': 'unified', 'source': 's'}
    file = tmp_path / 'published.json'
    file.write_text(json.dumps([entry | {'box_ap': 40.0}]))
    published = load_published(file)
    first = next(result for result in results if result.contestant.name == 'dcn_tiny')
    assert find_figure(published, first, 'box_AP') is None
    assert 'start unknown, published not stated' in why_not_compared(published, first)
    whole = replace(first.recipe, epochs=12, batch_size=16, start='pretrained')
    assert find_figure(published, replace(first, recipe=whole), 'box_AP').value == 40.0


def test_its_models_are_compared(results):
    found = compare(results[:1], results[1:], resamples=200)
    assert [each.metric for each in found] == list(BOXES.headlines)
    assert 'box AP' in comparison_text(found)


def test_custom_records(tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, POINTS.key, POINTS)
    names = np.array([f'{number:03}.jpg' for number in range(40)])
    results = [
        read_result(
            write_result(
                tmp_path / backbone,
                PointEvidence(names, ('nose',), (np.arange(40) >= missed).astype(np.uint8)),
                backbone,
            )
        )
        for backbone, missed in (('dcn_tiny', 30), ('swin_tiny', 4))
    ]
    (comparison,) = compare(results[:1], results[1:], resamples=200)
    assert comparison.is_told_apart
    assert comparison.sentence.startswith('swin_tiny has 65.00 points higher PCK than dcn_tiny')
    text = render(results, [], 'markdown', uncertainty=uncertainties(results, resamples=200))
    assert 'keypoints on ADE20K val' in text
    assert '25.00 (' in text
