"""UperNet (Xiao et al., arXiv 1807.10221) on ADE20K, 160,000 iterations at 512x512.

    bash tools/dist_train.sh configs/upernet_dcn_tiny.py 8 --pretrained released --amp

Data in `data/ade/ADEChallengeData2016` (or `--data-root`): `images/{training,validation}/`,
`annotations/{training,validation}/`.
Cost at the tiny scale: 160,000 iterations of 16 crops; about 0.24 TMAC per 512x512 crop, forward.
There are no published figures of the unified backbones on ADE20K. The original Swin-T has 44.5 mIoU,
ConvNeXt-T 46.0.

A leaf adds the backbone. All mixers use the recipe of Swin: drop path is 0.3 at tiny, small and base
(0.1 at micro, which Swin does not have), and weight decay applies to batch norms of the heads.

This is the fair page: norms, relative positions and position embeddings of the backbone are not decayed,
regardless of their names. In `upernet_ade20k_160k_released.py`, their released names decide.
"""

from mmengine.config import read_base

with read_base():
    from .runtime import *

default_scope = 'mmseg'

recipe = dict(
    name='upernet_ade20k_160k',
    task='semantic_segmentation',
    title='UperNet',
    dataset='ADE20K val',
    images=2000,
    iterations=160_000,
    batch_size=16,
    start='pretrained',
)

crop_size = (512, 512)
# With several GPU processes, `tools/train.py` converts every BN to SyncBN.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=crop_size,
    ),
    decode_head=dict(
        type='UPerHead',
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type='FCNHead',
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)

data_root = 'data/ade/ADEChallengeData2016'
train_pipeline = [
    dict(type='LoadCheckedImage'),
    dict(type='LoadCheckedSegmentationMap', num_classes=150, reduce_zero_label=True),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
# Annotations are loaded after the resize, since predictions are compared at the original size.
# mmseg's inferencers look for these loaders; the suite replaces them by `LoadCheckedImage` and
# `LoadCheckedSegmentationMap`.
test_pipeline = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
# Test scale times 0.5 to 1.75, as for the published multi-scale figures.
tta_pipeline = [
    dict(type='LoadCheckedImage'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale=(1024, 256), keep_ratio=True),
                dict(type='Resize', scale=(1536, 384), keep_ratio=True),
                dict(type='Resize', scale=(2048, 512), keep_ratio=True),
                dict(type='Resize', scale=(2560, 640), keep_ratio=True),
                dict(type='Resize', scale=(3072, 768), keep_ratio=True),
                dict(type='Resize', scale=(3584, 896), keep_ratio=True),
            ],
            [
                dict(type='RandomFlip', prob=0.0, direction='horizontal'),
                dict(type='RandomFlip', prob=1.0, direction='horizontal'),
            ],
            [dict(type='LoadCheckedSegmentationMap', num_classes=150, reduce_zero_label=True)],
            [dict(type='PackSegInputs')],
        ],
    ),
]
tta_model = dict(type='SegmentationTTAModel')

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='SeededInfiniteSampler', shuffle=True),
    dataset=dict(
        type='ADE20KDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ADE20KDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='SegmentationMetric')
test_evaluator = val_evaluator

train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# As published, decay the batch norms of the heads.
no_decay_of_norms_and_positions.update(
    custom_keys=dict(decode_head=dict(decay_mult=1.0), auxiliary_head=dict(decay_mult=1.0))
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=no_decay_of_norms_and_positions,
)
del no_decay_of_norms_and_positions
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=1500, end=160000, by_epoch=False),
]
# 8 GPUs with 2 images each.
auto_scale_lr = dict(enable=False, base_batch_size=16)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='SafeCheckpointHook', by_epoch=False, interval=16000),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DrawSegmentations'),
    result=dict(type='ResultHook'),
)
visualizer = dict(
    type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer'
)
log_processor = dict(by_epoch=False)
