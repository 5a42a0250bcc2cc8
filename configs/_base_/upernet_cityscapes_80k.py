"""UperNet (Xiao et al., arXiv 1807.10221) on Cityscapes, 80,000 iterations at 512x1024.

    bash tools/dist_train.sh configs/cityscapes_upernet_swin_tiny.py 8 --pretrained released --amp

Data in `data/cityscapes` (or `--data-root`): `leftImg8bit/{train,val}/CITY/` and
`gtFine/{train,val}/CITY/` with maps `*_gtFine_labelTrainIds.png`.
Cost at the tiny scale: 80,000 iterations of 16 crops of 512x1024; about 1.9 TMAC per 1024x2048 image,
forward.
Published mIoU: ResNet-50 78.19 (mmsegmentation; SGD, 8 crops at a time).

Data, image sizes and number of iterations are those of
`configs/upernet/upernet_r50_4xb2-80k_cityscapes-512x1024.py` in mmsegmentation. Optimizer, warmup and
batch are those of its `upernet_swin-t_patch4_window7_in1K-224x224-pre-3rdparty_8x2_512x1024_80k_
cityscapes.py`, which are the settings of UperNet on ADE20K.
"""

from mmengine.config import read_base

with read_base():
    from .upernet_ade20k_160k import *

recipe.update(
    name='upernet_cityscapes_80k',
    dataset='Cityscapes val',
    images=500,
    iterations=80_000,
    flops_size=(1024, 2048),
)

crop_size = (512, 1024)
model.update(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=19),
    auxiliary_head=dict(num_classes=19),
)

data_root = 'data/cityscapes'
train_pipeline = [
    dict(type='LoadCheckedImage'),
    dict(type='LoadCheckedSegmentationMap', num_classes=19, reduce_zero_label=False),
    dict(type='RandomResize', scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline[1].update(scale=(2048, 1024))
test_pipeline[2].update(reduce_zero_label=False)
tta_pipeline[1].update(
    transforms=[
        [
            dict(type='Resize', scale=(2048 * quarters // 4, 1024 * quarters // 4), keep_ratio=True)
            for quarters in (2, 3, 4, 5, 6, 7)
        ],
        tta_pipeline[1].transforms[1],
        [train_pipeline[1]],
        tta_pipeline[1].transforms[3],
    ]
)
train_dataloader.update(
    dataset=dict(
        type='CityscapesDataset',
        data_root=data_root,
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=train_pipeline,
    )
)
val_dataloader.update(
    dataset=dict(
        type='CityscapesDataset',
        data_root=data_root,
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
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
