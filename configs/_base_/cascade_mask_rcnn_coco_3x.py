"""Cascade Mask R-CNN (Cai and Vasconcelos, arXiv 1906.09756) on COCO, 36 epochs, multi-scale.

    bash tools/dist_train.sh configs/cascade_mask_rcnn_swin_tiny.py 8 --pretrained released --amp

Data in `data/coco` (or `--data-root`): `train2017/ val2017/ annotations/instances_{train,val}2017.json`.
Cost at the tiny scale: 264,000 iterations of 16 images; about 0.75 TMAC per 800x1280 image, forward.
Published box / mask AP: ResNet-50 46.3 / 40.1 (arXiv 2103.14030), the original Swin-T 50.4 / 43.7 and
ConvNeXt-T 50.4 / 43.7.

The heads are those of Swin and ConvNeXt (`giou_4conv1f` in Swin-Transformer-Object-Detection, and
`configs/convnext/cascade-mask-rcnn_convnext-t-p4-w7_fpn_4conv1fc-giou_amp-ms-crop-3x_coco.py` of
mmdetection): four convolutions with batch norm and a linear layer, GIoU loss on decoded boxes. The rest
of the model is `configs/_base_/models/cascade-mask-rcnn_r50_fpn.py` there. Schedule, image sizes and
learning rate are Swin's, those of `mask_rcnn_coco_3x.py`. As published, batch norms of the box heads are
decayed.
"""

from mmengine.config import read_base

with read_base():
    from .mask_rcnn_coco_3x import *

recipe.update(name='cascade_mask_rcnn_coco_3x', title='Cascade Mask R-CNN')

model.update(
    type='CascadeRCNN',
    rpn_head=dict(loss_bbox=dict(type='SmoothL1Loss', beta=1 / 9)),
    roi_head=dict(
        type='CascadeRoIHead',
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_head=[
            dict(
                type='ConvFCBBoxHead',
                num_shared_convs=4,
                num_shared_fcs=1,
                in_channels=256,
                conv_out_channels=256,
                fc_out_channels=1024,
                roi_feat_size=7,
                num_classes=80,
                bbox_coder=dict(
                    type='DeltaXYWHBBoxCoder', target_means=[0.0, 0.0, 0.0, 0.0], target_stds=stds
                ),
                reg_class_agnostic=False,
                reg_decoded_bbox=True,
                # With several GPU processes, `tools/train.py` converts every BN to SyncBN.
                norm_cfg=dict(type='BN', requires_grad=True),
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                loss_bbox=dict(type='GIoULoss', loss_weight=10.0),
            )
            for stds in (
                [0.1, 0.1, 0.2, 0.2],
                [0.05, 0.05, 0.1, 0.1],
                [0.033, 0.033, 0.067, 0.067],
            )
        ],
    ),
    train_cfg=dict(
        rpn=dict(allowed_border=0),
        rpn_proposal=dict(max_per_img=2000),
        rcnn=[
            dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=threshold,
                    neg_iou_thr=threshold,
                    min_pos_iou=threshold,
                    match_low_quality=False,
                    ignore_iof_thr=-1,
                ),
                sampler=dict(
                    type='RandomSampler',
                    num=512,
                    pos_fraction=0.25,
                    neg_pos_ub=-1,
                    add_gt_as_proposals=True,
                ),
                mask_size=28,
                pos_weight=-1,
                debug=False,
            )
            for threshold in (0.5, 0.6, 0.7)
        ],
    ),
)
optim_wrapper.update(paramwise_cfg=dict(custom_keys=dict(roi_head=dict(decay_mult=1.0))))
