"""Settings of segmentors that mmseg would only reject, or handle wrongly, after the start."""

import warnings
from pathlib import Path

import mmseg
import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData

import backbones  # noqa: F401  (import before mmseg, which needs its operators)
from evaluation.analysis.robustness.attack_losses import segmentation_loss
from evaluation.config.segmentor_checks import check_all_class_weights, check_segmentation
from evaluation.config.whole_config import check_config
from evaluation.data.config_checks import check_transforms
from evaluation.data.dataset_config import plain_datasets
from evaluation.data.startup_checks import check_data
from evaluation.engine.experiment import read_config, set_data_root
from evaluation.metrics.class_metrics import SegmentationMetric
from evaluation.utils.errors import UserError
from tests.commands import ROOT
from tests.refusals import refusal

from mmseg.structures import SegDataSample  # isort: skip

pytestmark = pytest.mark.habits

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
DIMS = [16, 32, 64, 128]
SIGMOID = {'type': 'CrossEntropyLoss', 'use_sigmoid': True}


def binary(**head):
    """Return options for two classes and one channel in both heads."""
    settings = {'num_classes': 2, 'out_channels': 1, 'threshold': 0.5, 'loss_decode': SIGMOID, **head}
    return {
        f'model.{name}.{key}': value
        for name in ('decode_head', 'auxiliary_head')
        for key, value in settings.items()
    }


@pytest.fixture
def cfg():
    cfg = read_config(str(ROOT / 'configs/upernet_swin_micro.py'))
    cfg.merge_from_dict(
        {
            'model.backbone.dims': DIMS,
            'model.backbone.depths': [1, 1, 1, 1],
            'model.decode_head.in_channels': DIMS,
            'model.auxiliary_head.in_channels': DIMS[2],
            'model.decode_head.channels': 16,
            'model.auxiliary_head.channels': 16,
        }
    )
    return cfg


class TestNoFalseAlarm:
    def test_configs_of_mmseg(self):
        folder = Path(mmseg.__file__).parent / '.mim/configs'
        # The HSI Drive config stretches the prediction for a crop over the whole image.
        files = sorted(
            file
            for file in folder.glob('*/*.py')
            if '_base_' not in file.parts and 'hsi' not in file.name
        )
        checked = 0
        for file in files[::37]:
            try:
                cfg = Config.fromfile(file)
            except ImportError:  # a package that the suite does not need
                continue
            check_segmentation(cfg)
            datasets = [(name, each) for name in LOADERS for each in plain_datasets(cfg[name].dataset)]
            check_transforms(cfg, datasets)
            checked += 1
        assert checked > 10

    @pytest.mark.parametrize(
        'options',
        [
            binary(),
            binary(threshold=None),
            binary(loss_decode=[SIGMOID, {**SIGMOID, 'loss_name': 'loss_b', 'class_weight': [2.0]}]),
            {'model.decode_head.num_classes': 2, 'model.auxiliary_head.num_classes': 2},
            {'model.test_cfg': {'mode': 'slide', 'crop_size': (64, 64), 'stride': (42, 42)}},
            {'model.test_cfg': {'mode': 'slide', 'crop_size': [64, 64], 'stride': [64, 64]}},
        ],
    )
    def test_valid_settings(self, cfg, options):
        cfg.merge_from_dict(options)
        check_config(cfg, LOADERS, processes=1)


class TestRefused:
    @pytest.mark.parametrize(
        ('settings', 'what'),
        [
            ({'mode': 'slide'}, "mode='slide' with crop_size=None; give height and width"),
            ({'mode': 'slide', 'crop_size': (64, 64)}, "mode='slide' with stride=None"),
            ({'mode': 'slide', 'stride': (64, 64)}, "mode='slide' with crop_size=None"),
            ({'mode': 'slide', 'crop_size': 64, 'stride': (64, 64)}, 'with crop_size=64'),
            ({'mode': 'slide', 'crop_size': (64, 64), 'stride': (0, 64)}, 'with stride=(0, 64)'),
            ({'mode': 'slide', 'crop_size': (64, 64), 'stride': (64, 65)}, 'leaves gaps'),
            ({'mode': 'sliding'}, "test_cfg.mode='sliding': give 'whole'"),
            ({}, 'test_cfg.mode=None'),
            (None, 'test_cfg.mode=None'),
        ],
    )
    def test_test_mode(self, cfg, settings, what):
        cfg.model.test_cfg = settings
        assert what in refusal(check_config, cfg, LOADERS, 1)

    @pytest.mark.parametrize(
        ('options', 'what'),
        [
            (binary(loss_decode={'type': 'CrossEntropyLoss'}), 'cannot train out_channels=1'),
            # With one channel, mmseg assigns every pixel to its only class.
            (
                binary(loss_decode={'_delete_': True, 'type': 'DiceLoss'}),
                'DiceLoss with these settings cannot train',
            ),
            (
                binary(loss_decode={'_delete_': True, 'type': 'FocalLoss'}),
                'FocalLoss with these settings',
            ),
            (binary(loss_decode=[SIGMOID, {'type': 'LovaszLoss'}]), 'LovaszLoss with these settings'),
            (
                binary(loss_decode={**SIGMOID, 'class_weight': [1.0, 2.0]}),
                'decode_head.loss_decode.class_weight has 2 numbers for 1 channels; give one number',
            ),
            (binary(threshold=1.5), 'decode_head.threshold=1.5: it must be a probability'),
            (binary(threshold=0), 'decode_head.threshold=0'),
            (binary(num_classes=5), 'out_channels=1 with num_classes=5; give 5, or 1 with two classes'),
            (binary(num_classes=3, out_channels=2), 'out_channels=2 with num_classes=3'),
            ({'model.decode_head.num_classes': 1}, 'num_classes=1: segmentation needs at least'),
            (
                {**binary(), 'tta_model.type': 'SegTTAModel'},
                'applies the sigmoid twice if decode_head.out_channels=1',
            ),
            (binary(sampler={'type': 'OHEMPixelSampler'}), 'decode_head.sampler needs one channel'),
            ({'model.decode_head.ignore_index': 0}, 'decode_head.ignore_index=0, but maps and metric'),
            ({'model.auxiliary_head.ignore_index': 254}, 'auxiliary_head.ignore_index=254'),
            ({'model.data_preprocessor.seg_pad_val': 0}, 'data_preprocessor.seg_pad_val=0'),
            ({'train_dataloader.dataset.ignore_index': 0}, 'train_dataloader.dataset.ignore_index=0'),
        ],
    )
    def test_heads(self, cfg, options, what):
        cfg.merge_from_dict(options)
        assert what in refusal(check_config, cfg, LOADERS, 1)

    def test_class_weights_for_a_different_number_of_classes(self, cfg):
        check_all_class_weights(cfg)
        cfg.model.auxiliary_head.loss_decode.class_weight = [1.0] * 8
        line = refusal(check_all_class_weights, cfg)
        assert 'auxiliary_head.loss_decode.class_weight has 8 numbers for 150 channels' in line


class TestBinary:
    """A one-channel head, from the loss to the metric."""

    @pytest.fixture
    def model(self, cfg):
        cfg.merge_from_dict(binary(threshold=0.4))
        return self.build(cfg.model)

    def build(self, settings):
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmseg'), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return MODELS.build(settings).eval()

    def samples(self, count, shape=(64, 64)):
        generator = torch.Generator().manual_seed(1)
        facts = {'img_shape': shape, 'ori_shape': shape, 'pad_shape': shape, 'img_path': 'a.jpg'}
        samples = [SegDataSample(metainfo=facts) for _ in range(count)]
        for sample in samples:
            truth = torch.randint(0, 3, (1, *shape), generator=generator)
            truth[truth == 2] = 255
            sample.gt_sem_seg = PixelData(data=truth.to(torch.uint8))
        images = [torch.randint(0, 256, (3, *shape), generator=generator).byte() for _ in samples]
        return {'inputs': images, 'data_samples': samples}

    def test_metrics_match_a_naive_count(self, model):
        data = self.samples(2)
        with torch.no_grad():
            found = model.val_step(data)
            logits = model(model.data_preprocessor(data)['inputs'], mode='tensor')
        shape = (64, 64)
        logits = torch.nn.functional.interpolate(logits, shape, mode='bilinear')
        predicted = (torch.sigmoid(logits[:, 0]) > 0.4).numpy()
        assert 0.01 < predicted.mean() < 0.99
        truth = np.concatenate([sample.gt_sem_seg.data.numpy() for sample in data['data_samples']])
        metric = SegmentationMetric()
        metric.dataset_meta = {'classes': ('ground', 'object')}
        metric.process({}, [sample.to_dict() for sample in found])
        metrics = metric.evaluate(size=2)
        ious = []
        for label in (0, 1):
            seen, there = predicted[truth != 255] == label, truth[truth != 255] == label
            ious.append((seen & there).sum() / (seen | there).sum())
        assert metrics['mIoU'] == pytest.approx(100 * np.mean(ious))

    def test_augmentation_averages_probabilities(self, cfg):
        cfg.merge_from_dict(binary(threshold=0.4))
        augmented = self.build({**cfg.tta_model, 'module': cfg.model})
        data = self.samples(3)
        flips = [False, True, False]
        for sample, flip in zip(data['data_samples'], flips, strict=True):
            sample.set_metainfo({'flip': flip, 'flip_direction': 'horizontal' if flip else None})
        views = {key: [[value] for value in values] for key, values in data.items()}
        with torch.no_grad():
            (merged,) = augmented.test_step(views)
            each = augmented.module.val_step(data)
        probabilities = np.mean([view.seg_logits.data.numpy() for view in each], axis=0)
        found = merged.pred_sem_seg.data.numpy()
        assert found.shape == (1, 64, 64)
        assert 0.01 < found.mean() < 0.99
        assert np.array_equal(found, probabilities > 0.4)

    def test_augmentation_with_several_channels_matches_mmseg(self, cfg):
        ours = self.build({**cfg.tta_model, 'module': cfg.model})
        theirs = self.build({'type': 'SegTTAModel', 'module': cfg.model})
        theirs.load_state_dict(ours.state_dict())
        views = {key: [[value] for value in values] for key, values in self.samples(2).items()}
        with torch.no_grad():
            (found,), (expected,) = (model.test_step(views) for model in (ours, theirs))
        assert torch.equal(found.pred_sem_seg.data, expected.pred_sem_seg.data)

    def test_loss_of_attacks(self, model):
        data = self.samples(2)
        maps = torch.cat([sample.gt_sem_seg.data for sample in data['data_samples']])
        images = torch.stack(data['inputs']).float()
        losses = segmentation_loss(model, maps)(images)
        with torch.no_grad():
            logits = model(model.data_preprocessor({'inputs': list(images)})['inputs'], mode='tensor')
        logits = torch.nn.functional.interpolate(logits, (64, 64), mode='bilinear')[:, 0]
        for loss, own, truth in zip(losses, logits, maps, strict=True):
            known = truth != 255
            expected = torch.nn.functional.binary_cross_entropy_with_logits(
                own[known], truth[known].float()
            )
            assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


STEPS = {
    'load': ConfigDict(type='LoadCheckedImage'),
    'map': ConfigDict(type='LoadCheckedSegmentationMap', num_classes=150),
    'resize': ConfigDict(type='Resize', scale=(64, 64), keep_ratio=True),
    'flip': ConfigDict(type='RandomFlip', prob=1.0),
    'pad': ConfigDict(type='Pad', size=(64, 64)),
    'crop': ConfigDict(type='RandomCrop', crop_size=(64, 64)),
    'pack': ConfigDict(type='PackSegInputs'),
}


class TestPipelines:
    @pytest.mark.parametrize('loader', ['val_dataloader', 'test_dataloader'])
    @pytest.mark.parametrize(
        ('steps', 'what'),
        [
            (('load', 'map', 'resize', 'pack'), r'loads the map .* before Resize, which would'),
            (('load', 'resize', 'map', 'flip', 'pack'), 'before RandomFlip'),
            (('load', 'resize', 'pad', 'map', 'pack'), 'has Pad, but predictions are compared'),
            (('load', 'crop', 'map', 'pack'), 'has RandomCrop, but'),
        ],
    )
    def test_order(self, cfg, loader, steps, what):
        cfg[loader].dataset.pipeline = [STEPS[step] for step in steps]
        with pytest.raises(UserError, match=rf'^{loader}\.dataset\.pipeline .*{what}'):
            check_transforms(cfg, [(loader, cfg[loader].dataset)])

    def test_order_in_test_time_augmentation(self, cfg):
        cfg.tta_pipeline[1].transforms.insert(0, [STEPS['map']])
        with pytest.raises(UserError, match=r'^tta_pipeline loads the map .* before Resize'):
            check_transforms(cfg, [])

    @pytest.mark.parametrize('stated', [True, False, None])
    @pytest.mark.parametrize('kind', ['ADE20KDataset', 'BaseSegDataset', 'LoveDADataset'])
    def test_zero_label_of_transform(self, cfg, kind, stated):
        dataset = cfg.val_dataloader.dataset
        dataset.type = kind
        dataset.pipeline[2].reduce_zero_label = stated
        reduced = kind != 'BaseSegDataset'
        if stated in (None, reduced):
            check_transforms(cfg, [('val_dataloader', dataset)])
        else:
            with pytest.raises(UserError, match=rf'is {reduced} in the data set .* but {stated} in its'):
                check_transforms(cfg, [('val_dataloader', dataset)])

    def test_zero_label_of_two_data_sets(self, cfg):
        places = [(name, cfg[name].dataset) for name in LOADERS]
        check_transforms(cfg, places)
        cfg.val_dataloader = cfg.val_dataloader.copy()
        dataset = ConfigDict({**cfg.val_dataloader.dataset, 'reduce_zero_label': False})
        dataset.pipeline = [STEPS[step] for step in ('load', 'resize', 'map', 'pack')]
        with pytest.raises(UserError, match='is True in the data set of train_dataloader but False in'):
            check_transforms(cfg, [places[0], ('val_dataloader', dataset)])


class TestShapes:
    """Batches of several images in validation."""

    @pytest.fixture
    def data(self, tmp_path, cfg):
        from PIL import Image

        for split in ('training', 'validation'):
            for number, size in enumerate([(64, 48), (64, 48), (48, 64)]):
                for kind, ending in (('images', 'jpg'), ('annotations', 'png')):
                    file = tmp_path / kind / split / f'{number}.{ending}'
                    file.parent.mkdir(parents=True, exist_ok=True)
                    Image.new('RGB' if ending == 'jpg' else 'L', size, 1).save(file)
        set_data_root(cfg, str(tmp_path))
        for name in ('val_dataloader', 'test_dataloader'):
            cfg[name].dataset.pipeline[1].scale = (64, 64)
        return tmp_path

    @pytest.mark.parametrize('loader', ['val_dataloader', 'test_dataloader'])
    def test_several_shapes_are_refused(self, cfg, data, loader):
        cfg[loader].batch_size = 2
        with pytest.raises(UserError, match=r'different shapes .* 64x48 of .*0\.jpg and 48x64 of .*2\.'):
            check_data(cfg, [loader])

    def test_one_image_per_batch(self, cfg, data):
        check_data(cfg, LOADERS)

    def test_one_shape_after_the_pipeline(self, cfg, data):
        cfg.val_dataloader.batch_size = 2
        cfg.val_dataloader.dataset.pipeline[1].keep_ratio = False
        check_data(cfg, ['val_dataloader'])

    def test_files_of_one_shape(self, cfg, data):
        for file in data.rglob('2.*'):
            file.unlink()
        cfg.val_dataloader.batch_size = 2
        check_data(cfg, ['val_dataloader'])

    def test_images_that_will_be_skipped(self, cfg, data):
        (data / 'images/validation/2.jpg').write_bytes(b'')
        cfg.val_dataloader.batch_size = 2
        check_data(cfg, ['val_dataloader'], skip_bad_images=True)
