"""Semantic FPN (Kirillov et al., arXiv 1901.02446) on ADE20K, 80,000 iterations at 512x512.

    bash tools/dist_train.sh configs/semantic_fpn_swin_tiny.py 8 --pretrained released --amp

Data in `data/ade/ADEChallengeData2016` (or `--data-root`): `images/{training,validation}/`,
`annotations/{training,validation}/`.
Cost at the tiny scale: 80,000 iterations of 16 crops; about 0.05 TMAC per 512x512 crop, forward.
Published mIoU: ResNet-50 36.7, PVT-S 39.8 (arXiv 2102.12122), PVTv2-B2 45.2 (arXiv 2106.13797), the
original Swin-T 41.5 (arXiv 2104.13840).

The model is `configs/_base_/models/fpn_r50.py` of mmsegmentation. Optimizer and schedule are those of
`segmentation/configs/sem_fpn/PVT/fpn_pvt_s_ade20k_40k.py` in PVT for a batch of 16 images: 80,000
iterations (40,000 there, of twice the images at twice the learning rate), no warmup. Unlike there, norms
and positions of the backbone are not decayed, as in all pages that are fair to mixers. Drop path is that
of UperNet. Images are tested without being resized to a multiple of 32.
"""

from mmengine.config import read_base

with read_base():
    from .upernet_ade20k_160k import *

recipe.update(
    name='semantic_fpn_ade20k_80k',
    title='Semantic FPN',
    iterations=80_000,
    # That of the published figures.
    flops_size=(512, 512),
)

model.update(
    neck=dict(type='FPN', out_channels=256, num_outs=4),
    auxiliary_head=None,
)
# Assigned, not updated: nothing of UperNet's head stays.
model.decode_head = dict(
    type='FPNHead',
    in_channels=[256, 256, 256, 256],
    in_index=[0, 1, 2, 3],
    feature_strides=[4, 8, 16, 32],
    channels=128,
    dropout_ratio=0.1,
    num_classes=150,
    norm_cfg=norm_cfg,
    align_corners=False,
    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
)

train_cfg.update(max_iters=80_000, val_interval=8000)
optim_wrapper.update(optimizer=dict(lr=1e-4, weight_decay=1e-4))
param_scheduler = [dict(type='PolyLR', eta_min=0.0, power=0.9, begin=0, end=80_000, by_epoch=False)]
default_hooks.update(checkpoint=dict(interval=8000))
