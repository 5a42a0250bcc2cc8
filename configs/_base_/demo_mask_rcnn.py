"""Mask R-CNN on the generated scenes: the recipe of COCO, small enough for two CPU cores.

    python tools/demo.py        # or: make demo

Data in `work_dirs/demo/data/coco`, written by `tools/demo.py` in COCO's layout.
Cost: about a minute and 1 GB for each backbone at the micro scale on one core.
Expected box AP50 after 2 epochs from scratch: over 20 with every mixer.

Layer scales start at 1, so that the mixers matter in such a short training.
"""

from mmengine.config import read_base

with read_base():
    from .mask_rcnn_coco_1x import *

recipe.update(
    name='demo_mask_rcnn',
    dataset='generated scenes',
    images=None,
    epochs=None,
    iterations=None,
    batch_size=None,
    start=None,
    multi_scale=None,
)
classes = ('disc', 'square', 'triangle', 'star', 'ring', 'cross')
model.update(
    backbone=dict(layer_scale_init_value=1.0),
    neck=dict(out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=6),
        mask_roi_extractor=dict(out_channels=64),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64, num_classes=6),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100)),
)

data_root = 'work_dirs/demo/data/coco'
metainfo = dict(classes=classes)
train_pipeline = [
    dict(type='LoadCheckedImage'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(128, 128), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline[1].update(scale=(128, 128))
tta_pipeline[1].update(
    transforms=[
        [dict(type='Resize', scale=(side, side), keep_ratio=True) for side in (96, 128, 160)],
        *tta_pipeline[1].transforms[1:],
    ]
)
train_dataloader.update(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=train_pipeline),
)
val_dataloader.update(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator.update(ann_file=f'{data_root}/annotations/instances_val2017.json')
test_evaluator = val_evaluator

train_cfg.update(max_epochs=2, val_interval=2)
optim_wrapper.update(optimizer=dict(lr=7e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
]
auto_scale_lr.update(base_batch_size=2)
default_hooks.update(
    logger=dict(interval=10),
    checkpoint=dict(interval=2),
    result=dict(dataset='generated scenes'),
)
