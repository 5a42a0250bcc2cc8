"""Mask R-CNN on COCO, 36 epochs, multi-scale with the crop branch of DETR (arXiv 2005.12872).

    bash tools/dist_train.sh my_leaf.py 8 --pretrained released --amp

To make a leaf of this recipe, copy one of `mask_rcnn_*.py` and replace `mask_rcnn_coco_1x` by
`mask_rcnn_coco_3x`. The data are those of 1x, at three times the cost. For weight decay as in the
release, see `mask_rcnn_coco_3x_released.py`.
"""

from mmengine.config import read_base

with read_base():
    from .mask_rcnn_coco_1x import *

recipe.update(name='mask_rcnn_coco_3x', epochs=36, multi_scale=True)

train_pipeline = [
    dict(type='LoadCheckedImage'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomChoice',
        transforms=[
            [
                dict(
                    type='RandomChoiceResize',
                    scales=[(1333, side) for side in range(480, 801, 32)],
                    keep_ratio=True,
                )
            ],
            [
                dict(
                    type='RandomChoiceResize',
                    scales=[(4200, 400), (4200, 500), (4200, 600)],
                    keep_ratio=True,
                ),
                dict(
                    type='RandomCrop',
                    crop_type='absolute_range',
                    crop_size=(384, 600),
                    allow_negative_crop=True,
                ),
                dict(
                    type='RandomChoiceResize',
                    scales=[(1333, side) for side in range(480, 801, 32)],
                    keep_ratio=True,
                ),
            ],
        ],
    ),
    dict(type='PackDetInputs'),
]
train_dataloader.update(dataset=dict(pipeline=train_pipeline))
train_cfg.update(max_epochs=36)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1),
]
