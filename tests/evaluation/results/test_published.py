"""Published figures are compared only with results of the same contestant and recipe."""

import json
from dataclasses import replace

import pytest

from evaluation.results.published import find_figure, load_published, why_not_compared
from evaluation.results.reading import read_result
from tests.evaluation.metrics.problems import as_version_2, as_version_3
from tests.evaluation.tables.test_table import document

ENTRY = {
    'model': 'dcn_tiny',
    'recipe': 'mask_rcnn_coco_1x',
    'architecture': 'unified',
    'source': 'a paper',
    'box_ap': 47.2,
    'mask_ap': 42.5,
}


@pytest.fixture
def result(tmp_path):
    """Return a detector that was trained as the published one."""
    content = as_version_3(as_version_2(document(initialization='released')))
    file = tmp_path / 'result.json'
    file.write_text(json.dumps(content))
    return read_result(file)


@pytest.fixture
def published(tmp_path):
    def published(*entries):
        file = tmp_path / 'published.json'
        file.write_text(json.dumps(entries))
        return load_published(file)

    return published


def test_former_key_of_recipes_is_read(result, published):
    earlier = {'task' if key == 'recipe' else key: value for key, value in ENTRY.items()}
    assert published(earlier) == published(ENTRY)
    assert find_figure(published(earlier), result, 'box_AP').value == 47.2


@pytest.mark.parametrize(
    ('family', 'architecture', 'is_shown'),
    [
        ('unified', 'unified', True),
        (None, 'unified', True),
        ('mmdet', 'unified', False),
        ('unified', 'original', True),
        ('mmdet', 'original', True),
    ],
)
def test_unified_figures_are_for_the_unified_family(result, published, family, architecture, is_shown):
    entries = published(ENTRY | {'architecture': architecture})
    result = replace(result, contestant=replace(result.contestant, family=family))
    figure = find_figure(entries, result, 'box_AP')
    assert (figure is not None) == is_shown
    # A different network has no published figures, even if its name is the same.
    assert why_not_compared(entries, result) is None


def test_nothing_is_published_with_a_different_recipe(result, published):
    longer = replace(result, recipe=replace(result.recipe, name='mask_rcnn_coco_3x'))
    entries = published(ENTRY, ENTRY | {'recipe': 'mask_rcnn_coco_3x', 'box_ap': 49.0})
    assert find_figure(entries, longer, 'box_AP').value == 49.0
    assert find_figure(entries[:1], longer, 'box_AP') is None
    assert why_not_compared(entries[:1], longer) is None


@pytest.mark.parametrize('is_training_known', [True, False])
@pytest.mark.parametrize(
    ('left_out', 'reason', 'unknown_reason'),
    [
        ({'images': None}, 'the recipe does not state the number of images', None),
        ({'epochs': None}, 'published not stated', 'length unknown, published not stated'),
        ({'batch_size': None}, 'batch size 16, published not stated', 'batch size unknown, published'),
        ({'start': None}, 'start pretrained, published not stated', 'start unknown, published not'),
    ],
)
def test_incomplete_recipe_is_not_compared(
    result, published, is_training_known, left_out, reason, unknown_reason
):
    recipe = replace(result.recipe, **left_out, any_length=True)
    result = replace(result, recipe=recipe)
    if is_training_known:
        result = replace(result, max_iterations=87_960)
    else:
        result = replace(result, initialization=None, batch_size=None, max_epochs=None)
        reason = unknown_reason or reason
    entries = published(ENTRY)
    assert find_figure(entries, result, 'box_AP') is None
    assert reason in why_not_compared(entries, result)


def test_batch_size_of_the_entry_overrides_the_recipe(result, published):
    large = published(ENTRY | {'batch_size': 64})
    assert why_not_compared(large, result) == 'batch size 16, published 64'
    trained = replace(result, batch_size=64)
    assert find_figure(large, trained, 'box_AP').value == 47.2
    assert why_not_compared(published(ENTRY), trained) == 'batch size 64, published 16'
    # It is enough if the recipe states none.
    open_recipe = replace(trained, recipe=replace(trained.recipe, batch_size=None))
    assert find_figure(large, open_recipe, 'box_AP').value == 47.2


def test_entry_may_state_a_single_figure(result, published):
    """A detector with masks is compared by boxes with a published one without masks."""
    entries = published({key: value for key, value in ENTRY.items() if key != 'mask_ap'})
    assert find_figure(entries, result, 'box_AP').value == 47.2
    assert find_figure(entries, result, 'mask_AP') is None
