"""Published figures are compared only with results of the same contestant and recipe."""

import json
import re
from dataclasses import replace

import pytest

from evaluation.results.published import (
    PACKAGED,
    comparable_entries,
    comparable_flops,
    find_figure,
    load_published,
    why_not_compared,
)
from evaluation.results.reading import read_result
from evaluation.tasks import Contestant
from evaluation.utils.errors import UserError
from tests.commands import ROOT
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


def original(name, mixer=None, scale=None, family='original'):
    return Contestant(name, family, mixer, scale)


def swin(result, multi_scale=False, contestant=None):
    """Return a result of the original Swin-T at 1x."""
    recipe = replace(result.recipe, multi_scale=multi_scale)
    contestant = contestant or original('original_swin_tiny', 'swin', 'tiny')
    return replace(result, recipe=recipe, contestant=contestant)


@pytest.mark.parametrize(
    ('multi_scale', 'box', 'mask', 'source'),
    [
        (False, 42.7, 39.3, 'mmdetection configs/swin README'),
        (True, 43.7, 39.8, 'Swin-Transformer-Object-Detection README'),
    ],
)
def test_each_version_of_swin_tiny_has_its_own_figure(result, multi_scale, box, mask, source):
    own = swin(result, multi_scale)
    figures = [find_figure(load_published(), own, metric) for metric in ('box_AP', 'mask_AP')]
    assert [figure.value for figure in figures] == [box, mask]
    assert figures[0].source.startswith(source)
    assert why_not_compared(load_published(), own) is None


def test_unknown_training_scales_are_not_compared(result):
    own = swin(result, None)
    assert find_figure(load_published(), own, 'box_AP') is None
    reason = why_not_compared(load_published(), own)
    assert reason == 'training images: scales not stated, published single-scale'


def test_pretraining_must_agree_if_the_entry_states_it(result, published):
    entries = published(ENTRY | {'pretraining': 'MAE'})
    assert why_not_compared(entries, result) == 'pretraining not stated, published MAE'
    same = replace(result, recipe=replace(result.recipe, pretraining='MAE'))
    assert find_figure(entries, same, 'box_AP').value == 47.2
    assert find_figure(published(ENTRY), same, 'box_AP').value == 47.2


@pytest.mark.parametrize(
    ('contestant', 'recipe', 'box'),
    [
        (original('original_pvt_v2_b2', 'pvt', 'tiny'), {}, 45.3),
        (original('original_resnet50'), {}, 38.2),
        (original('r50', family='mmdet'), {}, 38.2),
        (original('r50', family=None), {}, 38.2),
        (original('original_swin_base', 'swin', 'base'), {}, 46.9),
        (
            original('original_convnext_tiny', 'convnext', 'tiny'),
            {'name': 'mask_rcnn_coco_3x', 'epochs': 36, 'multi_scale': True},
            46.2,
        ),
        # A unified result has figures of its own, which come first.
        (original('swin_tiny', 'swin', 'tiny', 'unified'), {}, 44.3),
        # Without them, it has those of the original network of its mixer and scale.
        (
            original('swin_small', 'swin', 'small', 'unified'),
            {'name': 'mask_rcnn_coco_3x', 'epochs': 36, 'multi_scale': True},
            48.5,
        ),
        # A variant with a name of its own has none.
        (original('swin_tiny_window16', 'swin', 'tiny', 'unified'), {}, None),
        (original('swin_tiny', 'swin', 'tiny', 'timm'), {}, None),
    ],
)
def test_contestants_find_their_packaged_figures(result, contestant, recipe, box):
    own = replace(result, contestant=contestant, recipe=replace(result.recipe, **recipe))
    own = replace(own, max_epochs=own.recipe.epochs, epoch=own.recipe.epochs)
    figure = find_figure(load_published(), own, 'box_AP')
    assert (figure and figure.value) == box


def test_packaged_figures_of_one_network_are_stored_once():
    """Two entries of a network and recipe must differ in their training."""
    entries = load_published()
    assert len({entry.identity for entry in entries}) == len(entries)
    names = {entry.model for entry in entries if entry.architecture == 'original'}
    assert not names & {entry.model for entry in entries if entry.architecture == 'unified'}
    assert all(entry.family for entry in entries if entry.architecture == 'original')


def test_comparable_entries_have_the_training_of_a_result(result, published):
    entries = published(
        ENTRY | {'model': 'a', 'architecture': 'original'},
        ENTRY | {'model': 'b', 'architecture': 'original', 'multi_scale': True},
        ENTRY | {'model': 'c', 'architecture': 'original', 'batch_size': 32},
        ENTRY | {'model': 'd', 'architecture': 'original', 'recipe': 'mask_rcnn_coco_3x'},
        ENTRY | {'model': 'e', 'architecture': 'original', 'multi_scale': False},
    )

    def names(*results):
        return [entry.model for entry in comparable_entries(entries, results)]

    assert names(result) == ['a', 'e']
    assert names(result, replace(result, batch_size=32)) == ['a', 'c', 'e']
    assert names(replace(result, initialization='scratch')) == []
    assert names(replace(result, images=100)) == []
    assert names(replace(result, dataset='my data')) == []


def test_flops_of_a_different_image_size_are_not_used(result, published):
    for size, expected in ((None, 9e9), ('800x1280', 9e9), ('1280x800', None)):
        (entry,) = published(ENTRY | {'gflops': 9, 'gflops_input': size})
        assert comparable_flops(entry, result.recipe) == expected


@pytest.mark.parametrize(
    ('change', 'complaint'),
    [
        ({'multi_scale': 1}, "'multi_scale' is not true or false"),
        ({'pretraining': 1}, "'pretraining' is not text"),
        ({'family': []}, "'family' is not text"),
        ({'gflops_input': '800'}, "'gflops_input' is not height and width"),
        ({'gflops_input': 800}, "'gflops_input' is not height and width"),
    ],
    ids=str,
)
def test_malformed_facts_are_named(published, change, complaint):
    with pytest.raises(UserError, match=complaint):
        published(ENTRY | change)


def test_only_entries_of_the_same_training_are_duplicates(published):
    assert len(published(ENTRY, ENTRY | {'multi_scale': True}, ENTRY | {'batch_size': 32})) == 3
    with pytest.raises(UserError, match='entry 2: duplicate of dcn_tiny, mask_rcnn_coco_1x, unified'):
        published(ENTRY, ENTRY | {'box_ap': 1.0})


def test_docs_count_and_describe_the_packaged_entries():
    page = (ROOT / 'docs/tables.md').read_text()
    others = [entry for entry in load_published() if entry.architecture != 'unified']
    families = {entry.family for entry in others}
    assert f'{len(others)} entries of {len(families)} families' in page
    keys = {key for item in json.loads(PACKAGED.read_text()) for key in item}
    described = set(re.findall(r'`(\w+)`', page[page.index('| key | meaning |') :]))
    # The size of ImageNet's test images is kept, but not read.
    assert keys - {'input'} <= described
