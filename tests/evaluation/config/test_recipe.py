"""Recipes and contestants in configs, valid and invalid."""

import pytest
from mmengine.config import Config
from torch import nn

from evaluation.config.config_files import read_config
from evaluation.config.digests import config_sha256
from evaluation.config.recipe import (
    check_competition,
    contestant_name,
    contestant_of,
    recipe_of,
    required_recipe,
)
from evaluation.tasks import TASKS, Contestant, Recipe
from evaluation.utils.errors import UserError
from tests.commands import ROOT

WHOLE = {
    'name': 'retinanet_1x',
    'task': 'instance_segmentation',
    'title': 'RetinaNet',
    'dataset': 'COCO val2017',
    'images': 5000,
    'epochs': 12,
    'batch_size': 16,
    'start': 'pretrained',
    'multi_scale': True,
    'pretraining': 'MAE',
}


def config(recipe=None, contestant=None, hook=None):
    """Return a config with only the parts that these checks read."""
    content = {'recipe': recipe, 'contestant': contestant}
    content = {name: value for name, value in content.items() if value is not None}
    if hook is not None:
        content['default_hooks'] = {'result': {'type': 'ResultHook', **hook}}
    return Config(content, cfg_text=repr(content), filename='mine/retinanet_swin.py')


def refusal(check, cfg):
    """Return the one-line error of a check."""
    with pytest.raises(UserError) as caught:
        check(cfg)
    (line,) = str(caught.value).splitlines()
    return line


class TestRecipe:
    def test_complete(self):
        recipe = recipe_of(config(WHOLE))
        assert recipe == Recipe(**WHOLE)
        assert recipe.length == '12 epochs'
        check_competition(config(WHOLE, hook={}))

    def test_minimal(self):
        least = {name: WHOLE[name] for name in ('name', 'task', 'dataset')}
        expected = Recipe(**least, title='retinanet_1x')
        assert recipe_of(config(least)) == expected
        assert expected.length is None
        # None means not stated, even if the default is different.
        assert recipe_of(config(least | {'title': None, 'any_length': None})) == expected

    def test_pairs_become_tuples_and_former_task_keys_current_ones(self):
        recipe = recipe_of(config(WHOLE | {'task': 'mask_rcnn', 'flops_size': [800, 1280]}))
        assert (recipe.task, recipe.flops_size) == ('instance_segmentation', (800, 1280))

    @pytest.mark.parametrize(
        ('change', 'complaint'),
        [
            ({'epoch': 12}, 'recipe has no epoch; did you mean epochs?'),
            ({'color': 12}, 'recipe has no color; it has name, task, title, dataset, images'),
            ({'name': None}, 'recipe has no name; the pages in configs/_base_ are examples'),
            ({'task': None}, 'recipe has no task'),
            ({'dataset': None}, 'recipe has no dataset'),
            ({'name': 3}, 'recipe.name is 3; give one line of text'),
            ({'title': ''}, "recipe.title is ''; give one line of text"),
            ({'dataset': ['a']}, "recipe.dataset is ['a']; give one line of text"),
            ({'images': 0}, 'recipe.images is 0; give a whole number from 1 to'),
            ({'images': '5000'}, "recipe.images is '5000'; give a whole number from 1 to"),
            ({'epochs': True}, 'recipe.epochs is True; give a whole number from 1 to'),
            ({'batch_size': 1.5}, 'recipe.batch_size is 1.5; give a whole number from 1 to'),
            (
                {'task': 'instance_segmentatoin'},
                "recipe.task is 'instance_segmentatoin'; did you mean instance_segmentation?",
            ),
            ({'task': 'tracking'}, "recipe.task is 'tracking'; the tasks are instance_segmentation, "),
            ({'start': 'zero'}, "recipe.start is 'zero'; give 'pretrained' or 'scratch'"),
            ({'iterations': 90_000}, 'recipe has both epochs and iterations; give only one'),
            ({'any_length': 'yes'}, "recipe.any_length is 'yes'; give True or False"),
            ({'multi_scale': 1}, 'recipe.multi_scale is 1; give True or False'),
            ({'pretraining': True}, 'recipe.pretraining is True; give one line of text'),
            ({'flops_size': 800}, 'recipe.flops_size is 800; give (height, width) in pixels'),
            ({'flops_size': (800,)}, 'recipe.flops_size is '),
            ({'flops_size': (800, 0)}, 'recipe.flops_size is '),
        ],
        ids=str,
    )
    def test_mistakes_are_named(self, change, complaint):
        line = refusal(recipe_of, config(WHOLE | change))
        assert line.startswith('config mine/retinanet_swin.py: ')
        assert complaint in line

    def test_not_a_declaration(self):
        line = refusal(recipe_of, config('mask_rcnn_coco_1x'))
        assert "recipe is 'mask_rcnn_coco_1x'; write recipe = dict(name=..., ...)" in line


class TestWithResults:
    """A config that writes results must declare its recipe."""

    def test_missing_recipe_is_refused(self):
        assert recipe_of(config()) is None
        check_competition(config())
        for check in (required_recipe, check_competition):
            line = refusal(check, config(hook={}))
            assert 'config mine/retinanet_swin.py declares no recipe, which results need' in line
            assert f'one of the tasks {", ".join(TASKS)}' in line

    def test_contradicting_hook(self):
        line = refusal(check_competition, config(WHOLE, hook={'task': 'upernet'}))
        assert line == (
            "default_hooks.result.task='upernet' and recipe.task='instance_segmentation' are different; "
            'give only recipe.task'
        )
        for same in ('mask_rcnn', 'instance_segmentation'):
            check_competition(config(WHOLE, hook={'task': same}))

    @pytest.mark.parametrize('task', TASKS.values(), ids=TASKS)
    def test_configs_from_before_pages_declared_recipes(self, task):
        earlier = config(hook={'task': task.earlier.key, 'dataset': 'x'})
        check_competition(earlier)
        assert recipe_of(earlier) == required_recipe(earlier) == task.earlier.recipe

    def test_hook_with_an_unknown_task_is_refused(self):
        assert 'declares no recipe' in refusal(check_competition, config(hook={'task': 'tracking'}))


class TestContestant:
    def test_is_named_after_its_config_unless_declared(self):
        assert contestant_name(config()) == 'retinanet_swin'
        assert contestant_name(config(contestant={'scale': 'tiny'})) == 'retinanet_swin'
        assert contestant_name(config(contestant={'name': 'swin_tiny'})) == 'swin_tiny'

    def test_backbone_provides_the_rest(self):
        backbone = nn.Linear(1, 1)
        assert contestant_of(config(), backbone) == Contestant('retinanet_swin', 'torch')
        backbone.family, backbone.mixer_name = 'unified', 'swin'
        declared = {'name': 'mine', 'scale': 'tiny'}
        expected = Contestant('mine', 'unified', 'swin', 'tiny')
        assert contestant_of(config(contestant=declared), backbone) == expected
        declared = {'name': 'mine', 'family': 'own', 'mixer': 'shift', 'scale': None}
        expected = Contestant('mine', 'own', 'shift')
        assert contestant_of(config(contestant=declared), backbone) == expected

    @pytest.mark.parametrize(
        ('declared', 'complaint'),
        [
            ('swin_tiny', "contestant is 'swin_tiny'; write contestant = dict(name=..., ...)"),
            ({'nam': 'a'}, 'contestant has no nam; did you mean name?'),
            ({'color': 'a'}, 'contestant has no color; it has name, family, mixer, scale'),
            ({'name': 3}, 'contestant.name is 3; give one line of text'),
            ({'name': 'a', 'scale': ''}, "contestant.scale is ''; give one line of text"),
        ],
        ids=str,
    )
    def test_mistakes_are_named(self, declared, complaint):
        for check in (contestant_name, check_competition):
            assert complaint in refusal(check, config(contestant=declared))


@pytest.fixture
def leaf(tmp_path):
    """Return a function that reads a config based on a leaf."""
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')

    def read(line):
        file = tmp_path / 'my_change.py'
        file.write_text(
            'from mmengine.config import read_base\n\nwith read_base():\n'
            f'    from .configs.mask_rcnn_swin_micro import *\n\n{line}\n'
        )
        return read_config(str(file))

    return read


def test_changed_leaf_does_not_keep_its_name(leaf):
    cfg = leaf('model.update(with_something=None)')
    assert 'contestant' not in cfg
    assert contestant_name(cfg) == 'my_change'
    assert recipe_of(cfg).name == 'mask_rcnn_coco_1x'


@pytest.mark.parametrize(
    'line', ["contestant = dict(name='swin_own', scale='micro')", "contestant.update(name='swin_own')"]
)
def test_changed_leaf_may_declare_a_contestant(leaf, line):
    cfg = leaf(line)
    assert cfg.contestant == {'name': 'swin_own', 'scale': 'micro'}


def test_names_of_results_are_not_in_digests(leaf):
    usual = config_sha256(leaf(''))
    assert config_sha256(leaf("contestant = dict(name='other')")) == usual
    assert config_sha256(leaf("recipe.update(name='other', images=9)")) == usual
    # Digests included task and data set before recipes existed.
    assert config_sha256(leaf("recipe.update(dataset='mine')")) != usual
