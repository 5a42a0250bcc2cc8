"""Every recipe page with leaves: settings, data, losses, predictions and five steps of training.

`test_leaves.py` tests Mask R-CNN 1x and UperNet on ADE20K, with every mixer, in more detail.
"""

import ast
import copy
import functools
import json

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, DefaultScope

from backbones import PAPER_MIXERS
from evaluation.config.config_files import read_config
from evaluation.config.contestants import use_backbone
from evaluation.config.recipe import recipe_of, variant_of
from evaluation.config.whole_config import check_config
from evaluation.data.config_checks import check_class_counts, check_transforms
from evaluation.data.dataset_config import class_names
from evaluation.data.map_layouts import MAP_LAYOUTS
from evaluation.models.complexity import complexity_of_config
from evaluation.scenes.scene_datasets import write_coco, write_maps
from evaluation.scenes.scenes import OBJECT_CLASSES, SceneStyle
from evaluation.tasks import FAIR, TASKS
from tests.commands import option_list, read_results
from tests.configs.test_leaves import detection_batch, segmentation_batch
from tests.variants import ROOT

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
BATCHES = {'mmdet': detection_batch, 'mmseg': segmentation_batch}
# Tested with every mixer by `test_leaves.py` and `test_imagenet_leaves.py`.
TESTED = ('mask_rcnn_coco_1x', 'upernet_ade20k_160k', 'imagenet_1k_300e', 'imagenet_1k_300e_batch4096')


def pages_of_leaves() -> dict[str, list[str]]:
    """Return the leaves of each recipe page, from the imports of all leaves."""
    found = {}
    for file in sorted((ROOT / 'configs').glob('*.py')):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('_base_.'):
                name = node.module.removeprefix('_base_.')
                if not name.startswith('backbones.'):
                    found.setdefault(name, []).append(file.stem)
    return found


LEAVES = {page: leaves for page, leaves in pages_of_leaves().items() if page not in TESTED}
every_page = pytest.mark.parametrize('page', LEAVES)


@functools.cache
def _small(page: str) -> Config:
    return use_backbone(read_config(str(ROOT / f'configs/_base_/{page}.py')), 'convnext_micro')


def small(page: str) -> Config:
    """Return a recipe with the fastest backbone and small heads."""
    cfg = copy.deepcopy(_small(page))
    cfg.model.backbone.drop_path_rate = 0.0
    cfg.merge_from_dict(small_heads(cfg))
    return cfg


def small_heads(cfg: Config) -> dict[str, object]:
    """Return options that make large heads fast: fewer channels and regions, the same layers."""
    model = cfg.model
    if model.get('auxiliary_head'):
        return {'model.decode_head.channels': 64, 'model.auxiliary_head.channels': 32}
    if 'roi_head' not in model:
        return {}
    found = {
        'model.train_cfg.rpn_proposal.nms_pre': 100,
        'model.test_cfg.rpn.max_per_img': 20,
        'model.test_cfg.rcnn.max_per_img': 10,
        'model.roi_head.mask_head.conv_out_channels': 32,
    }
    for n in range(len(model.roi_head.bbox_head)):
        head = f'model.roi_head.bbox_head.{n}'
        found |= {f'{head}.conv_out_channels': 32, f'{head}.fc_out_channels': 64}
        found[f'model.train_cfg.rcnn.{n}.sampler.num'] = 16
    return found


def build(cfg: Config) -> torch.nn.Module:
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(cfg.model)


def test_pages_are_found():
    assert {
        'retinanet_coco_1x',
        'cascade_mask_rcnn_coco_3x',
        'semantic_fpn_ade20k_80k',
        'upernet_cityscapes_80k',
        'upernet_coco_stuff164k_80k',
    } <= LEAVES.keys()


@every_page
def test_one_tiny_leaf_per_mixer_of_the_paper_in_the_same_words(page):
    texts = {}
    for mixer in PAPER_MIXERS:
        (leaf,) = (leaf for leaf in LEAVES[page] if leaf.endswith(f'_{mixer}_tiny'))
        text = (ROOT / f'configs/{leaf}.py').read_text()
        docstring = ast.get_docstring(ast.parse(text))
        reference = (ROOT / f'configs/mask_rcnn_{mixer}_tiny.py').read_text()
        phrase = reference.partition(' with ')[2].partition(', tiny, on ')[0]
        texts[mixer] = text.replace(phrase, 'PHRASE').replace(mixer, 'MIXER')
        assert f' with {phrase}, tiny, on ' in docstring
    assert len({*texts.values()}) == 1
    assert len(LEAVES[page]) == len(PAPER_MIXERS)


@every_page
def test_settings_match_the_recipe(page):
    cfg = small(page)
    recipe = recipe_of(cfg)
    assert recipe.name == page
    assert cfg.auto_scale_lr == {'enable': False, 'base_batch_size': recipe.batch_size}
    assert cfg.train_dataloader.batch_size * 8 == recipe.batch_size
    assert (cfg.train_cfg.get('max_epochs'), cfg.train_cfg.get('max_iters')) == (
        recipe.epochs,
        recipe.iterations,
    )
    # The schedule ends with the training.
    length = recipe.epochs or recipe.iterations
    assert cfg.param_scheduler[-1].end == length
    assert length % cfg.train_cfg.val_interval == 0
    assert cfg.default_hooks.checkpoint.interval == cfg.train_cfg.val_interval
    assert variant_of(cfg.optim_wrapper) == FAIR
    check_config(cfg, LOADERS, processes=8)


@every_page
def test_heads_and_transforms_fit_the_data(page):
    cfg = small(page)
    for loader in LOADERS:
        check_class_counts(cfg, loader, class_names(cfg[loader].dataset, cfg.default_scope))
        assert cfg[loader].dataset.data_root == cfg.data_root
    if cfg.default_scope == 'mmseg':
        check_transforms(cfg, [(loader, cfg[loader].dataset) for loader in LOADERS])
    assert cfg.test_dataloader == cfg.val_dataloader


def layout_of(cfg: Config):
    """Return the layout of the recipe's segmentation maps."""
    folders = dict(cfg.train_dataloader.dataset.data_prefix)
    return next(
        layout
        for layout in MAP_LAYOUTS.values()
        if [*map(str, layout.folders('train'))] == [folders['img_path'], folders['seg_map_path']]
    )


@pytest.mark.parametrize(
    'page', ['upernet_ade20k_160k', *(page for page in LEAVES if 'coco_' not in page or 'stuff' in page)]
)
def test_layout_is_that_of_the_data_set(page):
    """`tools/check_data.py` knows the layout; mmseg's class has the same endings and labels."""
    cfg = small(page)
    layout = layout_of(cfg)
    with DefaultScope.overwrite_default_scope('mmseg'):
        built = DATASETS.build({**cfg.val_dataloader.dataset, 'lazy_init': True})
    assert (built.img_suffix, built.seg_map_suffix) == (layout.image_ending, layout.map_ending)
    assert built.reduce_zero_label == layout.reduce_zero_label
    assert len(built.METAINFO['classes']) == layout.num_classes
    prefix = cfg.val_dataloader.dataset.data_prefix
    assert [*map(str, layout.folders('val'))] == [prefix.img_path, prefix.seg_map_path]


def rows_of_docs() -> dict[str, list[str]]:
    """Return the cells of each recipe in the table of docs/recipes.md."""
    lines = (ROOT / 'docs/recipes.md').read_text().splitlines()
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines if line.startswith('| `')]
    return {row[0].strip('`'): row[1:] for row in rows}


def test_docs_list_every_recipe_with_leaves():
    assert LEAVES.keys() <= rows_of_docs().keys()


@pytest.mark.parametrize('page', rows_of_docs())
def test_row_of_docs(page):
    configs, dataset, length, batch, optimizer, cost = rows_of_docs()[page]
    cfg = read_config(str(ROOT / f'configs/_base_/{page}.py'))
    recipe = recipe_of(cfg)
    assert dataset == recipe.dataset.partition(' ')[0]
    assert length.replace(',', '') == recipe.length
    assert int(batch) == recipe.batch_size
    settings = cfg.optim_wrapper.optimizer
    assert settings.type == 'AdamW'
    assert [float(value) for value in optimizer.split(',')] == [settings.lr, settings.weight_decay]
    leaves = pages_of_leaves().get(page, [])
    named = {file.stem for file in ROOT.glob(f'configs/{configs.strip("`")}.py')}
    # The former names of two leaves import another leaf.
    assert named - {'mask_rcnn_r50', 'upernet_r50'} == {*leaves}
    found = use_backbone(cfg, 'original_swin_tiny')
    counted = complexity_of_config(found.model, found.default_scope, recipe.flops_size)
    size = f'{counted.height}x{counted.width}'
    millions, billions = counted.parameters / 1e6, counted.flops_with_norms / 1e9
    assert cost == f'{millions:.1f}, {billions:.1f} at {size}'


# Training and prediction


def losses_of(model, scope):
    torch.manual_seed(0)
    batch = model.data_preprocessor(BATCHES[scope](), training=True)
    return model.parse_losses(model(**batch, mode='loss'))


@every_page
def test_steps_lower_the_loss_and_reach_every_parameter(page):
    cfg = small(page)
    if 'size' in cfg.model.data_preprocessor:
        cfg.model.data_preprocessor.size = (64, 64)
    model = build(cfg).train()
    model.init_weights()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    found = []
    for _ in range(4):
        total, losses = losses_of(model, cfg.default_scope)
        assert all(value.isfinite() for value in losses.values())
        found.append(total.item())
        wrapper.update_params(total)
    assert found[-1] < found[0]
    losses_of(model, cfg.default_scope)[0].backward()
    # With several processes, parameters without gradients must be announced.
    unused = {
        name for name, value in model.named_parameters() if value.requires_grad and value.grad is None
    }
    assert bool(unused) == cfg.get('find_unused_parameters', False)
    assert all(name.startswith('backbone.out_norms.0.') for name in unused)


@every_page
def test_predictions_have_the_size_of_the_image(page):
    cfg = small(page)
    test_cfg = cfg.model.test_cfg
    if cfg.default_scope == 'mmdet':
        test_cfg.get('rcnn', test_cfg).score_thr = 0.0
    model = build(cfg).eval()
    size = (71, 90)
    batch = BATCHES[cfg.default_scope]()
    sample = batch['data_samples'][0]
    sample.set_metainfo({'img_shape': size, 'ori_shape': size, 'img_path': ''})
    inputs = [torch.randint(0, 256, (3, *size), dtype=torch.uint8)]
    with torch.no_grad():
        (result,) = model.test_step({'inputs': inputs, 'data_samples': [sample]})
    if cfg.default_scope == 'mmseg':
        assert result.pred_sem_seg.data.shape == (1, *size)
        return
    found = result.pred_instances
    assert 0 < len(found) <= 100
    assert (found.bboxes.amax(0) <= torch.tensor([size[1], size[0]] * 2)).all()
    if 'roi_head' in cfg.model:
        assert found.masks.shape == (len(found), *size)


# Whole trainings, on generated data in the layout of the recipe.

SIDE = 64
STYLE = SceneStyle(height=SIDE, width=SIDE)
SPLITS = {'train': 10, 'val': 2}
_ANY = {
    **{f'{loader}.num_workers': 0 for loader in LOADERS},
    **{f'{loader}.persistent_workers': False for loader in LOADERS},
    'default_hooks.logger.interval': 1,
}


def resized(cfg: Config) -> dict[str, object]:
    """Return options that make all images small, at any depth of the pipelines."""
    found = {}

    def visit(value, place):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in entries:
            name = f'{place}.{key}'
            if key == 'scale':
                found[name] = (2 * SIDE, SIDE)
            elif key == 'scales':
                found[name] = [(2 * SIDE, SIDE)]
            elif key == 'crop_size':
                found[name] = (SIDE, SIDE)
            elif isinstance(part, (dict, list, tuple)):
                visit(part, name)

    for loader in LOADERS:
        visit(cfg[loader].dataset.pipeline, f'{loader}.dataset.pipeline')
    return found


def options_of(cfg: Config) -> dict[str, object]:
    """Return options for a training of five steps with two images each."""
    options = {**_ANY, **resized(cfg), **small_heads(cfg)}
    if cfg.default_scope == 'mmseg':
        last = len(cfg.param_scheduler) - 1
        return options | {
            'model.data_preprocessor.size': (SIDE, SIDE),
            'train_cfg.max_iters': 5,
            'train_cfg.val_interval': 5,
            'default_hooks.checkpoint.interval': 5,
            **({'param_scheduler.0.end': 2, f'param_scheduler.{last}.begin': 2} if last else {}),
            f'param_scheduler.{last}.end': 5,
        }
    heads = ['model.bbox_head']
    test_cfg = 'model.test_cfg'
    if 'roi_head' in cfg.model:
        stages = range(len(cfg.model.roi_head.bbox_head))
        heads = [f'model.roi_head.bbox_head.{n}' for n in stages] + ['model.roi_head.mask_head']
        test_cfg = 'model.test_cfg.rcnn'
    return options | {
        **{f'{loader}.dataset.metainfo.classes': OBJECT_CLASSES for loader in LOADERS},
        **{f'{head}.num_classes': len(OBJECT_CLASSES) for head in heads},
        f'{test_cfg}.score_thr': 0.0,
        'train_dataloader.dataset.filter_cfg': None,
        'train_cfg.max_epochs': 1,
        'param_scheduler.0.end': 2,
        'param_scheduler.1.end': 1,
        'param_scheduler.1.milestones': [1],
    }


def five_steps(page, run, folder):
    """Train with a function that runs a command; return the result and the losses."""
    cfg = small(page)
    if cfg.default_scope == 'mmseg':
        write_maps(layout_of(cfg), folder / 'data', STYLE, SPLITS, seed=0)
    else:
        write_coco(folder / 'data', STYLE, SPLITS, seed=0)
    file = ROOT / f'configs/_base_/{page}.py'
    options = option_list(options_of(cfg))
    arguments = [file, '--backbone', 'convnext_micro', '--data-root', 'data', *options]
    run('train', *arguments, folder=folder)
    (result,) = read_results(folder / 'work_dirs')
    (scalars,) = (folder / 'work_dirs').rglob('scalars.json')
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    return result, [line['loss'] for line in lines if 'loss' in line]


@every_page
def test_five_steps_and_an_evaluation(page, commands, on_device, tmp_path):
    (tmp_path / 'here').mkdir()
    result, losses = five_steps(page, commands.succeed, tmp_path / 'here')
    assert result['recipe']['name'] == page
    assert result['contestant']['name'] == 'convnext_micro'
    assert result['images'] == SPLITS['val']
    # Five steps find little.
    assert 0 <= result['metrics'][TASKS[small(page).recipe.task].primary[0]] < 50
    assert len(losses) == 5
    assert all(0 < loss < 100 for loss in losses)
    # No operation mixes a device and the CPU, and the device finds the same.
    (tmp_path / 'there').mkdir()
    other, others = five_steps(page, on_device, tmp_path / 'there')
    assert others == pytest.approx(losses, rel=1e-3)
    assert other['metrics'] == pytest.approx(result['metrics'], abs=0.5)
