"""Classification on ImageNet-1k, 300 epochs at 224x224 with 1024 images per step.

    bash tools/dist_train.sh configs/imagenet_swin_tiny.py 8 --amp
    python tools/test.py configs/imagenet_swin_tiny.py unified_swin_tiny.pth

Data in `data/imagenet` (or `--data-root`): `train/` and `val/` with one folder per class, or with any
folders plus `meta/train.txt` and `meta/val.txt`, whose lines contain a file name and a label.
Cost at the tiny scale: 1,281,167 images per epoch, each 4.7 (pvt) to 5.3 GMAC (halo) forward.
Published top-1 of the unified backbones at the tiny scale: 82.1 (pvt) to 83.3 (dcn).

A leaf adds the backbone and its drop path. The recipe is that of DeiT and Swin. Depthwise and deformable
convolution were trained with four times the images per step and four times the learning rate; see
`imagenet_1k_300e_batch4096.py`.

This is the fair page: it exempts norms, biases, layer scales and positions of all mixers from weight
decay. In the release, the shape of a parameter decided; see `imagenet_1k_300e_released.py`.
"""

from mmengine.config import read_base

with read_base():
    from .runtime import *

default_scope = 'mmengine'

recipe = dict(
    name='imagenet',
    task='classification',
    title='Classification',
    dataset='ImageNet-1k val',
    images=50_000,
    epochs=300,
    batch_size=1024,
    start='scratch',
    any_length=True,
)

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ClassificationPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        random_erasing=0.25,
    ),
    mixup=0.8,
    cutmix=1.0,
    label_smoothing=0.1,
)

data_root = 'data/imagenet'
# Like the release: decode with OpenCV and apply the EXIF orientation.
load_image = dict(type='LoadCheckedImage', color_type='color')
train_pipeline = [
    load_image,
    dict(
        type='TimmTransforms',
        input_size=224,
        is_training=True,
        interpolation='bicubic',
        auto_augment='rand-m9-mstd0.5-inc1',
        color_jitter=0.4,
    ),
    dict(type='PackClassification'),
]
test_pipeline = [
    load_image,
    dict(
        type='TimmTransforms',
        input_size=224,
        is_training=False,
        interpolation='bicubic',
        crop_pct=0.875,
    ),
    dict(type='PackClassification'),
]
del load_image

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='SeededSampler', shuffle=True),
    dataset=dict(type='ImageNetDataset', data_root=data_root, split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ImageNetDataset', data_root=data_root, split='val', pipeline=test_pipeline, test_mode=True
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='AccuracyMetric')
test_evaluator = val_evaluator

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
no_decay_of_norms_and_positions.update(bias_decay_mult=0.0, flat_decay_mult=0.0)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=no_decay_of_norms_and_positions,
)
del no_decay_of_norms_and_positions
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        begin=0,
        end=20,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        by_epoch=True,
        begin=20,
        end=300,
        convert_to_iter_based=True,
    ),
]
# 8 GPUs with 128 images each.
auto_scale_lr = dict(enable=False, base_batch_size=1024)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='SafeCheckpointHook', interval=10),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    result=dict(type='ResultHook'),
)
# Evaluate the averaged weights. Batch norm statistics are averaged too, as in timm.
custom_hooks = [
    dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=1e-4, update_buffers=True)
]
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
log_processor = dict(by_epoch=True)
