"""Sizes of training images, from the pipelines of configs."""

import pytest
from mmengine.config import Config

from evaluation.memory.training_size import training_size
from tests.refusals import refusal

FLIP = {'type': 'RandomFlip', 'prob': 0.5}
KEPT = {'keep_ratio': True}
GROUPED = {'batch_sampler': {'type': 'AspectRatioBatchSampler'}}


def config(*steps, preprocessor=None, wrapped=False, **loader):
    dataset = {'type': 'CocoDataset', 'pipeline': [FLIP, *steps]}
    if wrapped:
        dataset = {'type': 'RepeatDataset', 'times': 3, 'dataset': dataset}
    return Config(
        {
            'model': {'data_preprocessor': preprocessor or {'pad_size_divisor': 32}},
            'train_dataloader': {'batch_size': 2, 'dataset': dataset, **loader},
        },
        filename='mine.py',
        cfg_text='-',
    )


def resize(kind='Resize', **settings):
    return {'type': kind, **settings}


WIDE = resize(scale=(1333, 800), **KEPT)
SIZES = {
    'wide or upright, alone in a batch': (config(WIDE, **GROUPED), (800, 1344)),
    'wide and upright in a batch': (config(WIDE), (1344, 1344)),
    'in a wrapper': (config(WIDE, wrapped=True, **GROUPED), (800, 1344)),
    'not padded': (config(WIDE, preprocessor={'pad_size_divisor': 1}, **GROUPED), (800, 1333)),
    "mmseg's divisor": (config(WIDE, preprocessor={'size_divisor': 64}, **GROUPED), (832, 1344)),
    'several scales': (
        config(resize('RandomChoiceResize', scales=[(640, 1333), (800, 1333)], **KEPT), **GROUPED),
        (800, 1344),
    ),
    'between two scales': (
        config(resize('RandomResize', scale=[(1333, 640), (1333, 800)], **KEPT), **GROUPED),
        (800, 1344),
    ),
    'up to twice the scale': (
        config(resize('RandomResize', scale=(512, 512), ratio_range=(0.5, 2.0), **KEPT)),
        (1024, 1024),
    ),
    'ratio not kept': (config(resize(scale=(96, 640), keep_ratio=False), **GROUPED), (640, 96)),
    'absolute crop': (
        config(WIDE, {'type': 'RandomCrop', 'crop_size': (256, 320)}, **GROUPED),
        (320, 320),
    ),
    'relative crop': (
        config(WIDE, {'type': 'RandomCrop', 'crop_type': 'relative_range', 'crop_size': (0.3, 0.3)}),
        (1344, 1344),
    ),
    'padded': (config(resize(scale=640), {'type': 'Pad', 'size': (1024, 1024)}), (1024, 1024)),
    'one of several': (
        config({'type': 'RandomChoice', 'transforms': [[resize(scale=320)], [resize(scale=640)]]}),
        (640, 640),
    ),
    'fixed by the preprocessor': (config(WIDE, preprocessor={'size': (512, 1024)}), (512, 1024)),
    'fixed by a batch augment': (
        config(
            WIDE,
            preprocessor={'batch_augments': [{'type': 'BatchFixedSizePad', 'size': (896, 896)}]},
        ),
        (896, 896),
    ),
}
UNKNOWN = {
    'nothing': config(),
    'a mosaic': config(WIDE, {'type': 'Mosaic', 'img_scale': (640, 640)}),
    'a step without a type': config({}),
    'a choice without transforms': config({'type': 'RandomChoice'}),
    'a scale that is a word': config(resize(scale='big')),
    'a scale of one number': config(resize(scale=(800,))),
    'another batch augment': config(
        WIDE, preprocessor={'batch_augments': [{'type': 'BatchSyncRandomResize'}]}
    ),
}


@pytest.mark.parametrize('name', SIZES)
def test_size(name):
    cfg, shape = SIZES[name]
    found = training_size(cfg, None, None)
    assert (found.batch, found.height, found.width) == (2, *shape)


@pytest.mark.parametrize('name', UNKNOWN)
def test_what_is_not_understood_asks_for_the_shape(name):
    message = refusal(training_size, UNKNOWN[name], None, None)
    assert message.startswith('the ')
    assert 'mine.py' in message
    assert message.endswith('; give --shape HEIGHT WIDTH')
    found = training_size(UNKNOWN[name], (64, 96), 3)
    assert (found.batch, found.height, found.width) == (3, 64, 96)
