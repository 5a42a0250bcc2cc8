"""Originals: published settings and cost, and the same recipe as the unified backbones."""

import pytest
import timm
from mmengine.config import Config

from evaluation.config.config_files import read_config
from evaluation.config.contestants import find_backbone, use_backbone
from evaluation.config.digests import config_sha256
from evaluation.models.complexity import complexity_of_config
from evaluation.results.published import load_published
from evaluation.tasks import TASKS
from tests.variants import ROOT

RECIPES = {'mask_rcnn': 'mask_rcnn_coco_1x', 'upernet': 'upernet_ade20k_160k'}
LEAVES = sorted(path.stem for path in (ROOT / 'configs').glob('*_original_*.py'))
# Drop path of Mask R-CNN and UperNet: the repositories of the authors.
DROP_PATH = {
    'original_swin_tiny': (0.2, 0.3),
    'original_swin_small': (0.2, 0.3),
    'original_swin_base': (0.3, 0.3),
    'original_convnext_tiny': (0.4, 0.4),
    'original_convnext_small': (0.6, 0.3),
    'original_convnext_base': (0.7, 0.4),
    'original_pvt_v2_b2': (0.1, 0.1),
    'original_resnet50': (None, None),
}
DENSE = ('instance_segmentation', 'semantic_segmentation')
# With the same heads.
COST = [
    (entry.model, entry.recipe, entry)
    for entry in load_published()
    if entry.model in DROP_PATH and entry.parameters and entry.recipe != 'imagenet'
]


def page(recipe):
    return read_config(str(ROOT / f'configs/_base_/{recipe}.py'))


@pytest.mark.parametrize('name', DROP_PATH)
def test_drop_path(name):
    rates = tuple(find_backbone(name, task).settings.get('drop_path_rate') for task in DENSE)
    assert rates == DROP_PATH[name]


def test_every_original_is_checked():
    files = (ROOT / 'configs/_base_/backbones').glob('original_*.py')
    names = [name for file in files for name in Config.fromfile(file) if name.startswith('original_')]
    assert sorted(names) == sorted(DROP_PATH)


@pytest.mark.parametrize('leaf', LEAVES)
def test_a_leaf_is_its_recipe_with_the_backbone(leaf):
    cfg = read_config(str(ROOT / f'configs/{leaf}.py'))
    task, name = leaf.split('_original_')
    built = use_backbone(page(RECIPES[task]), f'original_{name}')
    assert built.contestant.to_dict() == cfg.contestant.to_dict()
    assert config_sha256(built) == config_sha256(cfg)


@pytest.mark.parametrize('task', RECIPES)
def test_former_names_are_the_same_experiment(task):
    former, today = (
        read_config(str(ROOT / f'configs/{task}_{name}.py')) for name in ('r50', 'original_resnet50')
    )
    assert former.contestant == today.contestant
    assert config_sha256(former) == config_sha256(today)


@pytest.mark.parametrize('name', [name for name in DROP_PATH if name != 'original_resnet50'])
def test_weights_of_the_publication_are_known_to_timm(name):
    model = find_backbone(name, DENSE[0]).settings['model_name']
    assert model in timm.list_pretrained(f'{model.partition(".")[0]}.*')


@pytest.mark.parametrize(('name', 'recipe', 'entry'), COST, ids=[f'{n}-{e.recipe}' for n, _, e in COST])
def test_published_cost(name, recipe, entry):
    """Parameters round to the published millions; FLOPs, which others count with norms, are close."""
    cfg = use_backbone(page(recipe), name)
    assert TASKS[cfg.recipe.task].key in DENSE
    found = complexity_of_config(cfg.model, cfg.default_scope, entry.flops_size)
    assert round(found.parameters / 1e6) == round(entry.parameters / 1e6)
    assert found.uncounted_operators == ()
    if entry.flops:
        # Two counts of Swin-S and Swin-B in the literature differ by 1.5 %.
        assert found.flops_with_norms == pytest.approx(entry.flops, rel=0.016)


@pytest.mark.parametrize(
    ('name', 'recipe', 'flops'),
    [
        ('original_swin_tiny', 'mask_rcnn_coco_1x', 267),
        ('original_swin_tiny', 'upernet_ade20k_160k', 945),
        ('original_convnext_tiny', 'mask_rcnn_coco_1x', 262),
        ('original_convnext_tiny', 'upernet_ade20k_160k', 939),
        ('original_resnet50', 'mask_rcnn_coco_1x', 260),
    ],
)
def test_published_flops_exactly(name, recipe, flops):
    cfg = use_backbone(page(recipe), name)
    found = complexity_of_config(cfg.model, cfg.default_scope)
    assert round(found.flops_with_norms / 1e9) == flops
