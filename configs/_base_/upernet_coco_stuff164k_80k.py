"""UperNet (Xiao et al., arXiv 1807.10221) on COCO-Stuff 164k, 80,000 iterations at 512x512.

    bash tools/dist_train.sh configs/coco_stuff_upernet_swin_tiny.py 8 --pretrained released --amp

Data in `data/coco_stuff164k` (or `--data-root`): `images/{train,val}2017/`,
`annotations/{train,val}2017/`, with maps `*_labelTrainIds.png`.
Cost at the tiny scale: 80,000 iterations of 16 crops; about 0.24 TMAC per 512x512 crop, forward.
There are no published figures of UperNet with this schedule that we know of.

Data (arXiv 1612.03716), image sizes, number of iterations and batch are those of
`configs/_base_/datasets/coco-stuff164k.py` and
`configs/deeplabv3/deeplabv3_r50-d8_4xb4-80k_coco-stuff164k-512x512.py` in mmsegmentation. Model,
optimizer and warmup are those of UperNet on ADE20K.
"""

from mmengine.config import read_base

with read_base():
    from .upernet_ade20k_160k import *

recipe.update(
    name='upernet_coco_stuff164k_80k',
    dataset='COCO-Stuff 164k val2017',
    images=5000,
    iterations=80_000,
)

model.update(
    decode_head=dict(num_classes=171),
    auxiliary_head=dict(num_classes=171),
)

data_root = 'data/coco_stuff164k'
train_pipeline[1].update(num_classes=171, reduce_zero_label=False)
test_pipeline[2].update(reduce_zero_label=False)
tta_pipeline[1]['transforms'][2][0].update(num_classes=171, reduce_zero_label=False)
train_dataloader.update(
    dataset=dict(
        type='COCOStuffDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/train2017', seg_map_path='annotations/train2017'),
        pipeline=train_pipeline,
    )
)
val_dataloader.update(
    dataset=dict(
        type='COCOStuffDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/val2017', seg_map_path='annotations/val2017'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader

train_cfg.update(max_iters=80_000, val_interval=8000)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=1500, end=80_000, by_epoch=False),
]
default_hooks.update(checkpoint=dict(interval=8000))
