"""Leaves: names, values of the recipes, the same recipe for all mixers, and a training step."""

import ast
import itertools
import re
import shutil

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbones import MIXERS, PAPER_MIXERS, UnifiedBackbone
from evaluation.config.digests import LATER_EXEMPTIONS
from evaluation.config.recipe import contestant_name, recipe_of
from evaluation.data.image_loading import checked_pipeline
from evaluation.engine.experiment import read_config
from tests.variants import LATER_MIXERS, ROOT, SCALES, VARIANTS, read_leaf

TASKS = {'mask_rcnn': 'MaskRCNN', 'upernet': 'EncoderDecoder'}
LEAVES = sorted(path.stem for task in TASKS for path in (ROOT / 'configs').glob(f'{task}_*.py'))
ORIGINALS = ('swin_tiny', 'convnext_tiny', 'pvt_v2_b2', 'resnet50')
UNIFIED = [leaf for leaf in LEAVES if '_original_' not in leaf and not leaf.endswith('_r50')]
DEMO = sorted(
    f'demo/{path.stem}' for task in TASKS for path in (ROOT / 'configs/demo').glob(f'{task}_*.py')
)
every_task = pytest.mark.parametrize('task', TASKS)

# dims[0], depths, heads[0]; dims and heads double from stage to stage.
DOUBLING = {
    'halo_micro': (32, [2, 2, 9, 2], 1),
    'halo_tiny': (96, [2, 2, 6, 2], 3),
    'halo_small': (96, [2, 2, 18, 2], 3),
    'halo_base': (128, [2, 2, 18, 2], 4),
    'swin_micro': (32, [2, 2, 9, 2], 1),
    'swin_tiny': (96, [2, 2, 6, 2], 3),
    'swin_small': (96, [2, 2, 18, 2], 3),
    'swin_base': (128, [2, 2, 18, 2], 4),
    'convnext_micro': (32, [3, 3, 8, 3], None),
    'convnext_tiny': (96, [2, 2, 9, 2], None),
    'convnext_small': (96, [2, 2, 24, 2], None),
    'convnext_base': (128, [2, 2, 24, 2], None),
    'dcn_micro': (32, [2, 2, 9, 2], 2),
    'dcn_tiny': (64, [4, 4, 18, 4], 4),
    'dcn_small': (80, [4, 4, 21, 4], 5),
    'dcn_base': (112, [4, 4, 21, 4], 7),
}
# dims, depths, mlp ratios; heads are the same at every scale.
PYRAMID = {
    'pvt_micro': ([32, 64, 160, 256], [2, 2, 3, 2], [8, 8, 4, 4]),
    'pvt_tiny': ([64, 128, 320, 512], [3, 4, 9, 3], [8, 8, 4, 4]),
    'pvt_small': ([64, 128, 320, 512], [3, 4, 21, 3], [8, 8, 4, 4]),
    'pvt_base': ([64, 128, 320, 512], [3, 8, 45, 3], [4, 4, 4, 4]),
}
DROP_PATH = {
    'mask_rcnn': {'micro': 0.1, 'tiny': 0.2, 'small': 0.2, 'base': 0.3},
    # As in Swin, which has no micro.
    'upernet': {'micro': 0.1, 'tiny': 0.3, 'small': 0.3, 'base': 0.3},
}
POSITIONS = (
    'relative_position_bias_table',
    'height_rel',
    'width_rel',
    'pos_embed.weight',
    *(f'mixer.{name}' for name in LATER_EXEMPTIONS),
)


def expected_backbone(variant, task):
    """Return the whole backbone config of a variant."""
    mixer, _, scale = variant.rpartition('_')
    drop_path_rate = DROP_PATH[task][scale]
    if mixer in LATER_MIXERS:
        return {**VARIANTS[variant], 'drop_path_rate': drop_path_rate}
    if variant in PYRAMID:
        dims, depths, mlp_ratios = PYRAMID[variant]
        options = {'num_heads': [1, 2, 5, 8], 'sr_ratio': [8, 4, 2, 1]}
        rest = {'mlp_ratios': mlp_ratios, 'pos_embed_sizes': [56, 28, 14, 7]}
    else:
        first, depths, heads = DOUBLING[variant]
        dims = [first * 2**i for i in range(4)]
        options = {'num_heads': [heads * 2**i for i in range(4)]} if heads else {}
        rest = {}
    return {
        'type': 'UnifiedBackbone',
        'mixer': {'type': mixer, **options},
        'dims': dims,
        'depths': depths,
        'drop_path_rate': drop_path_rate,
        **rest,
    }


def task_of(leaf):
    return next(task for task in TASKS if leaf.removeprefix('demo/').startswith(task))


def leaves_of(task, leaves=LEAVES):
    return [leaf for leaf in leaves if task_of(leaf) == task]


def build(cfg, device='cpu'):
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device(device):
        return MODELS.build(cfg.model)


# Names


def test_every_task_mixer_and_scale_has_a_leaf():
    products = [
        *itertools.product(TASKS, PAPER_MIXERS, SCALES),
        # Other scales by `--backbone`.
        *itertools.product(TASKS, LATER_MIXERS, ['tiny']),
    ]
    unified = {'_'.join(words) for words in products}
    assert len(unified) == 40 + 2 * len(LATER_MIXERS)
    assert set(UNIFIED) == unified
    originals = {f'{task}_original_{name}' for task in TASKS for name in ORIGINALS}
    # The former names of original_resnet50.
    assert set(LEAVES) == unified | originals | {'mask_rcnn_r50', 'upernet_r50'}
    assert set(DEMO) == {f'demo/{task}_{mixer}_micro' for task in TASKS for mixer in PAPER_MIXERS}


@pytest.mark.parametrize('leaf', UNIFIED)
def test_name_matches_content(leaf):
    task, variant = re.fullmatch(r'(mask_rcnn|upernet)_(.+)', leaf).groups()
    cfg = read_leaf(leaf)
    assert cfg.model.type == TASKS[task]
    recipe = {'mask_rcnn': 'mask_rcnn_coco_1x', 'upernet': 'upernet_ade20k_160k'}
    assert recipe_of(cfg).name == recipe[task]
    assert contestant_name(cfg) == variant
    assert cfg.contestant.scale == variant.rpartition('_')[2]
    backbone = cfg.model.backbone.to_dict()
    assert backbone == expected_backbone(variant, task)
    if task == 'mask_rcnn':
        assert cfg.model.neck.in_channels == backbone['dims']
    else:
        assert cfg.model.decode_head.in_channels == backbone['dims']
        assert cfg.model.auxiliary_head.in_channels == backbone['dims'][2]


@pytest.mark.parametrize('leaf', [*UNIFIED, *DEMO])
def test_leaves_differ_only_in_names(leaf):
    """Except for docstring, names and drop path, all leaves of a task have the same text."""

    def body(name):
        source = (ROOT / f'configs/{name}.py').read_text()
        docstring = ast.get_docstring(ast.parse(source))
        mixer, _, scale = name.partition(f'{task_of(name)}_')[2].rpartition('_')
        # The docstring of a demo leaf names the data set, which its base replaces.
        assert scale in docstring
        text = source.replace(f'"""{docstring}"""', '')
        assert text != source
        text = text.replace('\nbackbone.update(drop_path_rate=0.3)', '')
        text = text.replace(f"scale='{scale}'", "scale='SCALE'")
        return text.replace(f'{mixer}_{scale}', 'VARIANT').replace(
            f'backbones.{mixer}', 'backbones.MIXER'
        )

    reference = leaf.partition(task_of(leaf))[0] + f'{task_of(leaf)}_swin_micro'
    assert body(leaf) == body(reference)


def test_docstrings_name_one_mixer_each():
    phrases = {}
    for leaf in UNIFIED:
        source = (ROOT / f'configs/{leaf}.py').read_text()
        phrase = re.search(r' with (.+?), (\w+), on ', source.split('\n')[0])
        assert phrase.group(2) == leaf.split('_')[-1]
        mixer = leaf.removeprefix(f'{task_of(leaf)}_').rpartition('_')[0]
        phrases.setdefault(mixer, set()).add(phrase.group(1))
    assert all(len(names) == 1 for names in phrases.values())
    assert len(set.union(*phrases.values())) == len(MIXERS)


# Fairness


def without_backbone(cfg):
    """Return the config without the backbone and the channel numbers that depend on it."""
    rest = cfg.to_dict()
    del rest['model']['backbone'], rest['contestant']
    parts = ['neck'] if 'neck' in rest['model'] else ['decode_head', 'auxiliary_head']
    for part in parts:
        del rest['model'][part]['in_channels']
    return rest


@every_task
@pytest.mark.parametrize('leaves', [LEAVES, DEMO], ids=['leaves', 'demo'])
def test_only_the_backbone_differs(task, leaves):
    leaves = leaves_of(task, leaves)
    reference = without_backbone(read_leaf(leaves[0]))
    assert len(leaves) in (5, 25 + len(LATER_MIXERS))
    for leaf in leaves[1:]:
        assert without_backbone(read_leaf(leaf)) == reference, leaf


@every_task
def test_demo_backbones_differ_from_the_leaves_only_in_layer_scale(task):
    for leaf in leaves_of(task, DEMO):
        backbone = read_leaf(leaf).model.backbone.to_dict()
        assert backbone.pop('layer_scale_init_value') == 1
        assert backbone == expected_backbone(leaf.removeprefix(f'demo/{task}_'), task)


@every_task
def test_demo_recipe_is_a_smaller_recipe_of_the_leaves(task):
    demo, leaf = (read_leaf(f'{folder}{task}_swin_micro') for folder in ('demo/', ''))
    assert demo.optim_wrapper.paramwise_cfg == leaf.optim_wrapper.paramwise_cfg
    assert demo.optim_wrapper.optimizer.type == 'AdamW'
    assert demo.val_evaluator.type == leaf.val_evaluator.type
    for part in ('type', 'backbone', 'data_preprocessor'):
        ours, theirs = demo.model[part], leaf.model[part]
        if part == 'backbone':
            ours = {k: v for k, v in ours.items() if k != 'layer_scale_init_value'}
        if part == 'data_preprocessor':
            ours, theirs = ({k: v for k, v in d.items() if k != 'size'} for d in (ours, theirs))
        assert ours == theirs, part
    assert demo.data_root.startswith('work_dirs/demo')
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        assert demo[loader].dataset.data_root == demo.data_root
        classes = demo[loader].dataset.metainfo.classes
        heads = (
            [demo.model.roi_head.bbox_head, demo.model.roi_head.mask_head]
            if task == 'mask_rcnn'
            else [demo.model.decode_head, demo.model.auxiliary_head]
        )
        assert {head.num_classes for head in heads} == {len(classes)}


# Recipes


@every_task
@pytest.mark.parametrize(
    'variant',
    [*(f'{mixer}_micro' for mixer in MIXERS), *(f'original_{name}' for name in ORIGINALS)],
)
def test_weight_decay_by_parameter(task, variant):
    cfg = read_leaf(f'{task}_{variant}')
    model = build(cfg, 'meta')
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    assert type(optimizer) is torch.optim.AdamW
    rate, decay = {'mask_rcnn': (1e-4, 0.05), 'upernet': (6e-5, 0.01)}[task]
    found = {}
    for group in optimizer.param_groups:
        assert group['lr'] == rate
        assert group['betas'] == (0.9, 0.999)
        found |= {id(parameter): group['weight_decay'] for parameter in group['params']}
    # As published, batch norms of UperNet's heads are decayed.
    norms = {
        id(parameter)
        for name, module in model.named_modules()
        if not (task == 'upernet' and name.startswith(('decode_head', 'auxiliary_head')))
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm, _BatchNorm))
        for parameter in module.parameters()
    }
    positions = {id(p) for name, p in model.named_parameters() if name.endswith(POSITIONS)}
    assert norms
    of_variant = variant.removeprefix('original_')
    assert bool(positions) == of_variant.startswith(('halo', 'pvt_m', 'swin', 'nat', 'ss2d', 'agent'))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            exempt = id(parameter) in norms | positions
            assert found[id(parameter)] == (0 if exempt else decay), name


def learning_rates(cfg, steps, by_epoch):
    """Return the learning rate factor at each iteration or epoch, from schedulers of that kind."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedulers = [
        PARAM_SCHEDULERS.build(s, default_args={'optimizer': optimizer})
        for s in cfg.param_scheduler
        if s.by_epoch == by_epoch
    ]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]['lr'])
        for scheduler in schedulers:
            scheduler.step()
    return found


def assert_warm_up(rates, first, length):
    expected = [first + (1 - first) * i / (length - 1) for i in range(length)]
    assert rates[:length] == pytest.approx(expected, rel=1e-6)


def test_schedule_of_mask_rcnn():
    cfg = read_leaf('mask_rcnn_halo_tiny')
    rates = learning_rates(cfg, 1200, by_epoch=False)
    assert_warm_up(rates, 0.001, 1000)
    assert rates[1000:] == [pytest.approx(1)] * 200
    epochs = learning_rates(cfg, 12, by_epoch=True)
    assert epochs == pytest.approx([1] * 8 + [0.1] * 3 + [0.01])
    assert (cfg.train_cfg.type, cfg.train_cfg.max_epochs) == ('EpochBasedTrainLoop', 12)


def test_schedule_of_upernet():
    cfg = read_leaf('upernet_halo_tiny')
    rates = learning_rates(cfg, 160_000, by_epoch=False)
    assert_warm_up(rates, 1e-6, 1500)
    middle = 1500 + (160_000 - 1500) // 2
    assert rates[1500] == pytest.approx(1, abs=1e-4)
    assert rates[middle] == pytest.approx(0.5, abs=1e-4)
    assert 0 <= rates[-1] < 2e-5
    assert not [s for s in cfg.param_scheduler if s.by_epoch]
    assert (cfg.train_cfg.type, cfg.train_cfg.max_iters) == ('IterBasedTrainLoop', 160_000)


def steps(pipeline, kind):
    return [step for step in pipeline if step['type'] == kind]


@every_task
def test_batches(task):
    cfg = read_leaf(f'{task}_swin_tiny')
    assert cfg.auto_scale_lr == {'enable': False, 'base_batch_size': 16}
    assert cfg.train_dataloader.batch_size * 8 == 16
    assert cfg.train_dataloader.sampler.shuffle
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert not loader.sampler.shuffle
        assert loader.batch_size == 1
        assert loader.dataset.data_root == cfg.data_root


def test_data_of_mask_rcnn():
    cfg = read_leaf('mask_rcnn_swin_tiny')
    train, test = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    assert [s.type for s in train.pipeline] == [
        'LoadCheckedImage',
        'LoadAnnotations',
        'Resize',
        'RandomFlip',
        'PackDetInputs',
    ]
    assert steps(train.pipeline, 'RandomFlip')[0].prob == 0.5
    for pipeline in (train.pipeline, test.pipeline):
        (resize,) = steps(pipeline, 'Resize')
        assert resize == {'type': 'Resize', 'scale': (1333, 800), 'keep_ratio': True}
    assert not steps(test.pipeline, 'RandomFlip')
    assert 'train2017' in train.ann_file
    assert 'val2017' in test.ann_file
    assert cfg.val_evaluator.ann_file == f'{cfg.data_root}/{test.ann_file}'
    assert cfg.model.data_preprocessor.pad_size_divisor == 32


def test_data_of_upernet():
    cfg = read_leaf('upernet_swin_tiny')
    train, test = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    assert [s.type for s in train.pipeline] == [
        'LoadCheckedImage',
        'LoadCheckedSegmentationMap',
        'RandomResize',
        'RandomCrop',
        'RandomFlip',
        'PhotoMetricDistortion',
        'PackSegInputs',
    ]
    (resize,) = steps(train.pipeline, 'RandomResize')
    assert (resize.scale, resize.ratio_range) == ((2048, 512), (0.5, 2.0))
    (crop,) = steps(train.pipeline, 'RandomCrop')
    assert (crop.crop_size, crop.cat_max_ratio) == ((512, 512), 0.75)
    assert steps(train.pipeline, 'RandomFlip')[0].prob == 0.5
    (resize,) = steps(test.pipeline, 'Resize')
    assert resize == {'type': 'Resize', 'scale': (2048, 512), 'keep_ratio': True}
    # Labels are compared at the image's own size, so they must not be resized.
    tested = checked_pipeline(test, 'mmseg')
    kinds = [s.type for s in tested]
    assert kinds.index('LoadCheckedSegmentationMap') > kinds.index('Resize')
    for pipeline in (train.pipeline, tested):
        (load_map,) = steps(pipeline, 'LoadCheckedSegmentationMap')
        assert load_map.reduce_zero_label
        assert load_map.num_classes == 150
    assert 'training' in train.data_prefix.img_path
    assert 'validation' in test.data_prefix.img_path
    assert cfg.model.data_preprocessor.size == (512, 512)
    assert cfg.model.test_cfg == {'mode': 'whole'}


@every_task
@pytest.mark.parametrize('folder', ['', 'demo/'])
def test_images_are_normalized_as_for_imagenet(task, folder):
    preprocessor = read_leaf(f'{folder}{task}_pvt_micro').model.data_preprocessor
    assert np.divide(preprocessor.mean, 255) == pytest.approx([0.485, 0.456, 0.406], abs=1e-6)
    assert np.divide(preprocessor.std, 255) == pytest.approx([0.229, 0.224, 0.225], abs=1e-6)
    assert preprocessor.bgr_to_rgb


@every_task
@pytest.mark.parametrize('folder', ['', 'demo/'])
def test_every_pipeline_builds(task, folder):
    cfg = read_leaf(f'{folder}{task}_pvt_micro')
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            assert len(Compose(loader.dataset.pipeline).transforms) == len(loader.dataset.pipeline)
        assert len(Compose(cfg.tta_pipeline).transforms) == 2


def assert_nothing_is_loaded_unchecked(cfg):
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        pipeline = str(checked_pipeline(cfg[loader].dataset, cfg.default_scope))
        assert 'LoadCheckedImage' in pipeline
        assert 'LoadImageFromFile' not in pipeline
        # mmdet's class of the same name does not load a file.
        assert cfg.default_scope == 'mmdet' or 'LoadAnnotations' not in pipeline
    assert 'LoadImageFromFile' not in str(cfg.tta_pipeline)


@every_task
@pytest.mark.parametrize('folder', ['', 'demo/'])
def test_all_files_are_loaded_with_checks(task, folder):
    assert_nothing_is_loaded_unchecked(read_leaf(f'{folder}{task}_pvt_micro'))


def test_heads_of_mask_rcnn():
    """Sizes of the published Mask R-CNN R50-FPN: 80 classes, 256 channels, four mask convolutions."""
    model = build(read_leaf('mask_rcnn_r50'), 'meta')
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 3) == 44.396
    assert model.roi_head.bbox_head.fc_cls.out_features == 81
    assert model.roi_head.bbox_head.fc_reg.out_features == 4 * 80
    assert model.roi_head.mask_head.conv_logits.out_channels == 80
    assert len(model.roi_head.mask_head.convs) == 4
    assert model.neck.num_outs == 5


def test_heads_of_upernet():
    model = build(read_leaf('upernet_r50'), 'meta')
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 66.5
    head, auxiliary = model.decode_head, model.auxiliary_head
    assert head.conv_seg.out_channels == auxiliary.conv_seg.out_channels == 150
    assert (head.channels, auxiliary.channels) == (512, 256)
    assert [branch[0].output_size for branch in head.psp_modules] == [1, 2, 3, 6]
    assert head.loss_decode.loss_weight == 1
    assert auxiliary.loss_decode.loss_weight == 0.4
    assert auxiliary.in_index == 2


@pytest.mark.parametrize('leaf', [*LEAVES, *DEMO])
def test_batch_norms_are_not_synchronized_by_the_config(leaf):
    assert 'SyncBN' not in str(read_leaf(leaf).to_dict())


# The 3x recipe and overrides


@pytest.fixture
def leaf_of_3x(tmp_path):
    shutil.copytree(ROOT / 'configs/_base_', tmp_path / '_base_')
    source = (ROOT / 'configs/mask_rcnn_swin_micro.py').read_text()
    changed = source.replace('mask_rcnn_coco_1x', 'mask_rcnn_coco_3x')
    assert changed != source
    leaf = tmp_path / 'mask_rcnn_swin_micro_3x.py'
    leaf.write_text(changed)
    return read_config(str(leaf))


def test_3x_differs_from_1x_in_schedule_and_scales(leaf_of_3x):
    long, short = leaf_of_3x.to_dict(), read_leaf('mask_rcnn_swin_micro').to_dict()
    assert learning_rates(leaf_of_3x, 36, by_epoch=True) == pytest.approx(
        [1] * 27 + [0.1] * 6 + [0.01] * 3
    )
    assert_warm_up(learning_rates(leaf_of_3x, 1000, by_epoch=False), 0.001, 1000)
    assert (long['recipe'].pop('name'), long['recipe'].pop('epochs')) == ('mask_rcnn_coco_3x', 36)
    assert (short['recipe'].pop('name'), short['recipe'].pop('epochs')) == ('mask_rcnn_coco_1x', 12)
    assert (long['recipe'].pop('multi_scale'), short['recipe'].pop('multi_scale')) == (True, False)
    assert long['train_cfg'].pop('max_epochs') == 36
    assert short['train_cfg'].pop('max_epochs') == 12
    for cfg in (long, short):
        for key in ('param_scheduler', 'train_pipeline'):
            del cfg[key]
        del cfg['train_dataloader']['dataset']['pipeline']
    assert long == short
    assert isinstance(build(leaf_of_3x, 'meta').backbone, UnifiedBackbone)


def test_3x_loads_all_files_with_checks(leaf_of_3x):
    assert_nothing_is_loaded_unchecked(leaf_of_3x)


def test_3x_has_the_crop_branch(leaf_of_3x):
    pipeline = leaf_of_3x.train_dataloader.dataset.pipeline
    with DefaultScope.overwrite_default_scope('mmdet'):
        Compose(pipeline)
    (choice,) = steps(pipeline, 'RandomChoice')
    whole, cropped = choice.transforms
    sides = [(1333, side) for side in (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)]
    assert [s.type for s in whole] == ['RandomChoiceResize']
    assert [s.type for s in cropped] == ['RandomChoiceResize', 'RandomCrop', 'RandomChoiceResize']
    assert [tuple(scale) for scale in whole[0].scales] == sides
    assert [tuple(scale) for scale in cropped[2].scales] == sides
    assert [scale[1] for scale in cropped[0].scales] == [400, 500, 600]
    assert (cropped[1].crop_type, tuple(cropped[1].crop_size)) == ('absolute_range', (384, 600))
    assert all(s.keep_ratio for s in (whole[0], cropped[0], cropped[2]))


@every_task
def test_overrides_take_effect(task):
    cfg = read_leaf(f'{task}_swin_micro')
    cfg.merge_from_dict(
        {
            'model.backbone.drop_path_rate': 0.5,
            'model.backbone.mixer.window_size': 5,
            'model.backbone.with_cp': True,
            'optim_wrapper.optimizer.lr': 3e-4,
        }
    )
    model = build(cfg, 'meta')
    assert model.backbone.stages[-1][-1].drop_path.drop_prob == 0.5
    assert model.backbone.stages[0][0].mixer.window_size == 5
    assert model.backbone.with_cp
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    assert {group['lr'] for group in optimizer.param_groups} == {3e-4}


@pytest.mark.parametrize('leaf', [*LEAVES, *DEMO])
def test_no_top_level_copy_of_the_backbone_remains(leaf):
    cfg = read_leaf(leaf)
    assert not {'backbone', 'neck', 'dims'} & set(cfg)
    assert cfg.to_dict()['model']['backbone']['type'] in (
        'UnifiedBackbone',
        'TimmBackbone',
        'ResNet',
    )


@pytest.mark.parametrize('leaf', [*LEAVES, *DEMO])
def test_dumped_config_round_trip(leaf, tmp_path):
    cfg = read_leaf(leaf)
    file = tmp_path / 'dumped.py'
    cfg.dump(file)
    again = Config.fromfile(file).to_dict()
    expected = cfg.to_dict()
    for found in (again, expected):
        found.pop('read_base', None)
    assert again == expected


# A training step


def photograph(side):
    return torch.randint(0, 256, (3, side, side), dtype=torch.uint8)


def detection_batch(side=64):
    """Return one image with a small and a large object."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    boxes = torch.tensor([[8, 8, 24, 20], [16, 20, 60, 62]])
    masks = np.zeros((2, side, side), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    sample = DetDataSample(
        metainfo={'img_shape': (side, side), 'ori_shape': (side, side), 'scale_factor': (1.0, 1.0)}
    )
    sample.gt_instances = InstanceData(
        bboxes=boxes.float(), labels=torch.tensor([0, 3]), masks=BitmapMasks(masks, side, side)
    )
    return {'inputs': [photograph(side)], 'data_samples': [sample]}


def segmentation_batch(side=64):
    """Return two images: batch norm needs more than one value after pooling to 1x1."""
    from mmseg.structures import SegDataSample

    samples = [
        SegDataSample(
            metainfo={'img_shape': (side, side), 'ori_shape': (side, side)},
            gt_sem_seg=PixelData(data=torch.randint(0, 8, (1, side, side))),
        )
        for _ in range(2)
    ]
    return {'inputs': [photograph(side) for _ in samples], 'data_samples': samples}


BATCHES = {'mask_rcnn': detection_batch, 'upernet': segmentation_batch}
LOSSES = {
    'mask_rcnn': {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask'},
    'upernet': {'decode.loss_ce', 'aux.loss_ce'},
}


def small(cfg):
    """Return the config with the smallest possible inputs."""
    if 'size' in cfg.model.data_preprocessor:
        cfg.model.data_preprocessor.size = (64, 64)
    return cfg


def losses_of(model, task):
    batch = model.data_preprocessor(BATCHES[task](), training=True)
    total, losses = model.parse_losses(model(**batch, mode='loss'))
    return total, {name: value for name, value in losses.items() if '.loss' in name or 'loss_' in name}


@pytest.mark.parametrize('leaf', [*LEAVES, *DEMO])
def test_forward_and_backward(leaf):
    task, cfg = task_of(leaf), small(read_leaf(leaf))
    model = build(cfg).train()
    total, losses = losses_of(model, task)
    assert losses.keys() == LOSSES[task]
    assert all(value.isfinite() and value > 0 for value in losses.values())
    total.backward()
    # Drop path leaves out whole branches, mask and box branches may see no object: no gradient is
    # zero everywhere in the stem and in the output norms all the same.
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            # The norm is non-finite if any entry is; it needs no extra memory.
            assert parameter.grad.norm().isfinite(), name
    if isinstance(model.backbone, UnifiedBackbone):
        for module in (model.backbone.stem, *model.backbone.downsamples, model.backbone.out_norms):
            assert all(p.grad.abs().max() > 0 for p in module.parameters())


# Later mixers train in one task here; `test_forward_and_backward` runs both.
@pytest.mark.parametrize(
    ('task', 'mixer'),
    [*itertools.product(TASKS, PAPER_MIXERS), *(('upernet', mixer) for mixer in LATER_MIXERS)],
)
def test_one_step_of_the_recipe_lowers_the_loss(task, mixer):
    """The loss of the same batch decreases after a few steps with the config's optimizer."""
    cfg = small(read_leaf(f'{task}_{mixer}_micro'))
    cfg.model.backbone.drop_path_rate = 0.0
    model = build(cfg).train()
    model.init_weights()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    found = []
    for _ in range(4):
        torch.manual_seed(0)
        total, _ = losses_of(model, task)
        found.append(total.item())
        wrapper.update_params(total)
    assert found[-1] < found[0]


@every_task
@pytest.mark.parametrize('mixer', MIXERS)
def test_prediction(task, mixer):
    """Predictions have the original image size, even if it is not a multiple of the stride."""
    cfg = read_leaf(f'{task}_{mixer}_micro')
    if task == 'mask_rcnn':
        cfg.model.test_cfg.rcnn.score_thr = 0.0
    model = build(cfg).eval()
    size = (71, 90)
    batch = BATCHES[task]()
    batch['inputs'] = [torch.randint(0, 256, (3, *size), dtype=torch.uint8)]
    batch['data_samples'] = batch['data_samples'][:1]
    batch['data_samples'][0].set_metainfo({'img_shape': size, 'ori_shape': size, 'img_path': ''})
    with torch.no_grad():
        (result,) = model.test_step(batch)
    if task == 'upernet':
        labels = result.pred_sem_seg.data
        assert labels.shape == (1, *size)
        assert labels.min() >= 0
        assert labels.max() < 150
        return
    instances = result.pred_instances
    assert 0 < len(instances) <= 100
    assert instances.masks.shape == (len(instances), *size)
    assert instances.bboxes.isfinite().all()
    assert (instances.bboxes[:, [0, 2]] <= size[1]).all()
    assert (instances.bboxes[:, [1, 3]] <= size[0]).all()
