"""Selection of results with `--task` and `--recipe`."""

import argparse
import json

import pytest

from evaluation.results.reading import load_results
from evaluation.results.selection import add_choice, chosen
from evaluation.utils.errors import UserError
from tests.evaluation.metrics.problems import as_version_2, as_version_3
from tests.evaluation.tables.test_table import document


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    add_choice(parser, 'default: all')
    return parser.parse_args(arguments)


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """Return detectors of two recipes and a segmentor, in files of each version."""
    folder = tmp_path_factory.mktemp('results')
    longer = as_version_3(as_version_2(document('swin_tiny')))
    longer['recipe'] |= {'name': 'mask_rcnn_coco_3x', 'epochs': 36}
    contents = [document(), longer, as_version_2(document('dcn_tiny', 'upernet'))]
    for number, content in enumerate(contents):
        file = folder / f'{number}/result.json'
        file.parent.mkdir()
        file.write_text(json.dumps(content))
    return load_results([folder])


def names(results):
    return sorted(f'{result.contestant.name} {result.recipe.name}' for result in results)


@pytest.mark.parametrize('key', ['mask_rcnn', 'instance_segmentation'])
def test_task_by_both_keys(results, key):
    arguments = parsed('--task', key)
    assert arguments.task == 'instance_segmentation'
    found = chosen(results, arguments.task, arguments.recipe)
    assert names(found) == ['dcn_tiny mask_rcnn_coco_1x', 'swin_tiny mask_rcnn_coco_3x']


def test_recipe(results):
    arguments = parsed('--recipe', 'mask_rcnn_coco_3x')
    assert names(chosen(results, arguments.task, arguments.recipe)) == ['swin_tiny mask_rcnn_coco_3x']


def test_all_without_a_choice(results):
    arguments = parsed()
    assert chosen(results, arguments.task, arguments.recipe) == results


def test_unknown_task(capsys):
    with pytest.raises(SystemExit):
        parsed('--task', 'tracking')
    error = capsys.readouterr().err
    assert 'tracking' in error
    assert 'instance_segmentation' in error


@pytest.mark.parametrize(
    ('task', 'recipe', 'message'),
    [
        (
            'classification',
            None,
            'no result for classification in DIR; found only instance_segmentation, '
            'semantic_segmentation',
        ),
        (
            'instance_segmentation',
            'imagenet',
            'no result for imagenet in DIR; found only mask_rcnn_coco_1x, mask_rcnn_coco_3x',
        ),
        (
            'semantic_segmentation',
            'upernet_ade20k_16k',
            'no result for upernet_ade20k_16k in DIR; did you mean upernet_ade20k_160k?',
        ),
    ],
)
def test_found_tasks_and_recipes_are_named_if_none_is_left(results, task, recipe, message):
    with pytest.raises(UserError) as caught:
        chosen(results, task, recipe, ' in DIR')
    assert str(caught.value) == message
