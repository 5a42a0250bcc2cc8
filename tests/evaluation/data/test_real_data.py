"""Real COCO and ADE20K images in the pipelines of the recipes.

Set `COCO_ROOT` and `ADE20K_ROOT` to the folders of the data. Tests without data are skipped.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from PIL import Image

import backbones  # noqa: F401  (before mmdet and mmseg, which need its operators)
from evaluation.engine.experiment import read_config, set_data_root
from tests.commands import ROOT, option_list, read_results

import mmdet.registry  # isort: skip
import mmseg.registry  # isort: skip

SHARED = ROOT.parent / 'shared/real'
COCO = Path(os.environ.get('COCO_ROOT', SHARED / 'coco'))
ADE20K = Path(os.environ.get('ADE20K_ROOT', SHARED / 'ADEChallengeData2016'))
needs_coco = pytest.mark.skipif(not COCO.is_dir(), reason='no real COCO images')
needs_ade20k = pytest.mark.skipif(not ADE20K.is_dir(), reason='no real ADE20K images')
TASKS = [
    pytest.param('mask_rcnn', marks=needs_coco),
    pytest.param('upernet', marks=needs_ade20k),
]
ROOTS = {'mask_rcnn': COCO, 'upernet': ADE20K}

DIMS = [16, 32, 64, 128]
COMMON = {
    'model.backbone.dims': DIMS,
    'model.backbone.depths': [1, 1, 1, 1],
    'model.backbone.layer_scale_init_value': 1.0,
    'model.backbone.drop_path_rate': 0.0,
    **{
        f'{split}_dataloader.{key}': value
        for split in ('train', 'val', 'test')
        for key, value in (('num_workers', 0), ('persistent_workers', False))
    },
}
# Same as the recipe, except for smaller sizes.
SMALL = {
    'mask_rcnn': {
        **COMMON,
        'model.neck.in_channels': DIMS,
        'model.neck.out_channels': 32,
        'model.rpn_head.in_channels': 32,
        'model.rpn_head.feat_channels': 32,
        'model.roi_head.bbox_roi_extractor.out_channels': 32,
        'model.roi_head.bbox_head.in_channels': 32,
        'model.roi_head.bbox_head.fc_out_channels': 64,
        'model.roi_head.mask_roi_extractor.out_channels': 32,
        'model.roi_head.mask_head.in_channels': 32,
        'model.roi_head.mask_head.conv_out_channels': 32,
        'model.roi_head.mask_head.num_convs': 1,
        'model.test_cfg.rcnn.max_per_img': 20,
        'model.test_cfg.rcnn.score_thr': 0.0,
        'train_dataloader.dataset.pipeline.2.scale': (160, 160),
        'val_dataloader.dataset.pipeline.1.scale': (160, 160),
        'test_dataloader.dataset.pipeline.1.scale': (160, 160),
    },
    'upernet': {
        **COMMON,
        'model.decode_head.in_channels': DIMS,
        'model.decode_head.channels': 32,
        'model.auxiliary_head.in_channels': DIMS[2],
        'model.auxiliary_head.channels': 16,
        'model.data_preprocessor.size': (96, 96),
        'train_dataloader.dataset.pipeline.2.scale': (384, 96),
        'train_dataloader.dataset.pipeline.3.crop_size': (96, 96),
        'val_dataloader.dataset.pipeline.1.scale': (384, 96),
        'test_dataloader.dataset.pipeline.1.scale': (384, 96),
    },
}
CONFIGS = {
    'mask_rcnn': ROOT / 'configs/mask_rcnn_convnext_micro.py',
    'upernet': ROOT / 'configs/upernet_convnext_micro.py',
}
REGISTRIES = {'mask_rcnn': mmdet.registry, 'upernet': mmseg.registry}


def small_config(task):
    cfg = read_config(str(CONFIGS[task]))
    set_data_root(cfg, str(ROOTS[task]))
    cfg.merge_from_dict(SMALL[task])
    return cfg


@pytest.fixture
def scope(request):
    """Look up names in the registry of the task's library."""
    task = request.getfixturevalue('task') if 'task' in request.fixturenames else request.cls.task
    with DefaultScope.overwrite_default_scope({'mask_rcnn': 'mmdet', 'upernet': 'mmseg'}[task]):
        yield


def build_dataset(task, settings):
    dataset = REGISTRIES[task].DATASETS.build(settings)
    dataset.full_init()
    return dataset


def build_model(cfg, task):
    torch.manual_seed(0)
    return REGISTRIES[task].MODELS.build(cfg.model).train()


def total_loss(model, samples):
    batch = model.data_preprocessor(pseudo_collate(samples), training=True)
    losses = model(**batch, mode='loss')
    loss, _ = model.parse_losses(losses)
    return loss


def assert_step_is_finite(model, samples):
    """Run a forward and backward pass; check that every backbone parameter has a finite gradient."""
    loss = total_loss(model, samples)
    loss.backward()
    assert torch.isfinite(loss)
    assert loss > 0
    for name, parameter in model.backbone.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def instances_of(split):
    return json.loads((COCO / f'annotations/instances_{split}2017.json').read_text())


def annotations_by_image(content):
    by_image = {image['id']: [] for image in content['images']}
    for annotation in content['annotations']:
        by_image[annotation['image_id']].append(annotation)
    return by_image


@needs_coco
@pytest.mark.usefixtures('scope')
class TestCoco:
    task = 'mask_rcnn'

    def dataset(self, **changes):
        cfg = small_config('mask_rcnn')
        return build_dataset('mask_rcnn', {**cfg.train_dataloader.dataset, **changes})

    def test_training_skips_images_without_annotations(self):
        content = instances_of('train')
        wanted = {
            image['id']
            for image in content['images']
            if annotations_by_image(content)[image['id']] and min(image['height'], image['width']) >= 32
        }
        assert wanted < {image['id'] for image in content['images']}
        dataset = self.dataset()
        assert {dataset.get_data_info(i)['img_id'] for i in range(len(dataset))} == wanted

    def test_labels_of_the_80_categories(self):
        content = instances_of('train')
        dataset = self.dataset()
        names = [category['name'] for category in sorted(content['categories'], key=lambda c: c['id'])]
        assert list(dataset.metainfo['classes']) == names
        assert len(names) == 80
        named = {category['id']: category['name'] for category in content['categories']}
        by_image = annotations_by_image(content)
        for i in range(len(dataset)):
            info = dataset.get_data_info(i)
            found = sorted(names[one['bbox_label']] for one in info['instances'])
            assert found == sorted(named[one['category_id']] for one in by_image[info['img_id']])

    def test_crowds_are_ignored(self):
        by_image = annotations_by_image(instances_of('train'))
        crowds = {i: sum(one['iscrowd'] for one in found) for i, found in by_image.items()}
        assert sum(crowds.values()) > 0
        dataset = self.dataset()
        for i in range(len(dataset)):
            image = dataset.get_data_info(i)['img_id']
            if crowds[image]:
                sample = dataset[i]['data_samples']
                assert len(sample.ignored_instances) == crowds[image]
                assert len(sample.gt_instances) == len(by_image[image]) - crowds[image]

    def test_step_with_crowds(self):
        by_image = annotations_by_image(instances_of('train'))
        crowded = {i for i, found in by_image.items() if any(one['iscrowd'] for one in found)}
        dataset = self.dataset()
        samples = [
            dataset[i] for i in range(len(dataset)) if dataset.get_data_info(i)['img_id'] in crowded
        ]
        assert_step_is_finite(build_model(small_config('mask_rcnn'), 'mask_rcnn'), samples[:2])

    def test_step_without_annotations(self):
        by_image = annotations_by_image(instances_of('train'))
        dataset = self.dataset(filter_cfg=None)
        empty = [
            dataset[i] for i in range(len(dataset)) if not by_image[dataset.get_data_info(i)['img_id']]
        ]
        assert len(empty) == sum(not found for found in by_image.values()) > 0
        assert all(len(sample['data_samples'].gt_instances) == 0 for sample in empty)
        assert_step_is_finite(
            build_model(small_config('mask_rcnn'), 'mask_rcnn'), [*empty[:1], dataset[0]]
        )


@needs_ade20k
@pytest.mark.usefixtures('scope')
class TestAde20k:
    task = 'upernet'

    def dataset(self, split):
        cfg = small_config('upernet')
        return build_dataset('upernet', cfg[f'{split}_dataloader'].dataset)

    def test_150_classes(self):
        classes = self.dataset('train').metainfo['classes']
        assert len(classes) == 150
        assert (classes[0], classes[149]) == ('wall', 'flag')

    @pytest.mark.parametrize(('split', 'folder'), [('train', 'training'), ('val', 'validation')])
    def test_every_map_has_an_image(self, split, folder):
        names = {file.stem for file in (ADE20K / 'annotations' / folder).glob('*.png')}
        dataset = self.dataset(split)
        assert {Path(dataset.get_data_info(i)['img_path']).stem for i in range(len(dataset))} == names

    def test_label_0_is_ignored_and_others_are_shifted(self):
        dataset = self.dataset('val')
        for i in range(len(dataset)):
            sample = dataset[i]['data_samples']
            raw = np.array(Image.open(sample.seg_map_path)).astype(int)
            expected = np.where(raw == 0, 255, raw - 1)
            # The map keeps the original size, although the image is resized.
            assert np.array_equal(sample.gt_sem_seg.data[0].numpy(), expected)

    def test_training_crops_have_the_size_and_labels_of_the_recipe(self):
        dataset = self.dataset('train')
        for i in range(len(dataset)):
            sample = dataset[i]
            height, width = sample['inputs'].shape[1:]
            assert max(height, width) <= 96
            labels = sample['data_samples'].gt_sem_seg.data
            assert labels.shape == (1, height, width)
            assert set(labels.unique().tolist()) <= {*range(150), 255}

    def test_step(self):
        dataset = self.dataset('train')
        model = build_model(small_config('upernet'), 'upernet')
        assert_step_is_finite(model, [dataset[0], dataset[1]])


@pytest.mark.usefixtures('scope')
@pytest.mark.parametrize('task', TASKS)
def test_loss_decreases_on_the_same_two_images(task):
    cfg = small_config(task)
    np.random.seed(0)
    dataset = build_dataset(task, cfg.train_dataloader.dataset)
    model = build_model(cfg, task)
    samples = [dataset[0], dataset[1]]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(15):
        loss = total_loss(model, samples)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3]), losses


@pytest.mark.parametrize('task', TASKS)
def test_command_trains_and_evaluates(commands, task, tmp_path):
    short = {
        'mask_rcnn': {
            'train_cfg.max_epochs': 1,
            'train_dataloader.dataset.indices': 4,
            'val_dataloader.dataset.indices': 5,
        },
        'upernet': {
            'train_cfg.max_iters': 2,
            'train_cfg.val_interval': 2,
            'val_dataloader.dataset.indices': 5,
        },
    }
    options = option_list({**SMALL[task], **short[task]})
    commands.succeed(
        'train', CONFIGS[task], '--work-dir', tmp_path, '--data-root', ROOTS[task], *options
    )
    (result,) = read_results(tmp_path)
    assert result['images'] == 5
    if task == 'mask_rcnn':
        assert result['dataset'] == 'COCO val2017'
        assert 0 <= result['metrics']['mask_AP'] <= result['metrics']['mask_AP50'] <= 100
        assert len(result['per_class']['box_AP']) == 80
    else:
        assert result['dataset'] == 'ADE20K val'
        assert 0 <= result['metrics']['mIoU'] <= result['metrics']['mAcc'] <= 100
        assert len(result['per_class']['IoU']) == 150
