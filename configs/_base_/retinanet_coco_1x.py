"""RetinaNet (Lin et al., arXiv 1708.02002) on COCO, 12 epochs.

    bash tools/dist_train.sh configs/retinanet_swin_tiny.py 8 --pretrained released --amp

Data in `data/coco` (or `--data-root`): `train2017/ val2017/ annotations/instances_{train,val}2017.json`.
Cost at the tiny scale: 88,000 iterations of 16 images; about 0.25 TMAC per 800x1280 image, forward.
Published box AP: ResNet-50 36.5 (SGD, mmdetection), PVT-S 40.4, PVTv2-B2 44.6 (arXiv 2106.13797),
the original Swin-T 41.5 (arXiv 2104.13840).

The model is `configs/_base_/models/retinanet_r50_fpn.py` of mmdetection; AdamW, learning rate and weight
decay are those of `configs/pvt/retinanet_pvtv2-b2_fpn_1x_coco.py`, with the warmup of 500 iterations of
`configs/_base_/schedules/schedule_1x.py`. Unlike there, norms and positions are not decayed, as in all
pages that are fair to mixers.
"""

from mmengine.config import read_base

with read_base():
    from .mask_rcnn_coco_1x import *

recipe.update(name='retinanet_coco_1x', title='RetinaNet')

# Assigned, not updated: nothing of Mask R-CNN stays but the normalization of images.
model = dict(
    type='RetinaNet',
    data_preprocessor=model.data_preprocessor,
    neck=dict(type='FPN', out_channels=256, start_level=1, add_extra_convs='on_input', num_outs=5),
    bbox_head=dict(
        type='RetinaHead',
        num_classes=80,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        anchor_generator=dict(
            type='AnchorGenerator',
            octave_base_scale=4,
            scales_per_octave=3,
            ratios=[0.5, 1.0, 2.0],
            strides=[8, 16, 32, 64, 128],
        ),
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder',
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[1.0, 1.0, 1.0, 1.0],
        ),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0),
    ),
    train_cfg=dict(
        assigner=dict(
            type='MaxIoUAssigner',
            pos_iou_thr=0.5,
            neg_iou_thr=0.4,
            min_pos_iou=0,
            ignore_iof_thr=-1,
        ),
        # The focal loss uses all anchors.
        sampler=dict(type='PseudoSampler'),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type='nms', iou_threshold=0.5),
        max_per_img=100,
    ),
)
# There are no masks.
model['data_preprocessor'].update(pad_mask=False)
# The neck starts at stride 8, so the norm of the first map gets no gradient.
find_unused_parameters = True

optim_wrapper.update(optimizer=dict(weight_decay=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
]
