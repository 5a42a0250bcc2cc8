"""Mask R-CNN on generated scenes at the full size of COCO's recipe: 20 steps, for `tools/check_gpu.py`.

    python tools/check_gpu.py --stages training

Data of `evaluation/gpu_check/suite_commands.py`: scenes of 800x1280 pixels in COCO's layout.
"""

from mmengine.config import read_base

with read_base():
    from .mask_rcnn_coco_1x import *

recipe.update(
    name='check_gpu_mask_rcnn',
    dataset='generated scenes',
    images=None,
    epochs=None,
    iterations=None,
    batch_size=None,
    start=None,
)
metainfo = dict(classes=('disc', 'square', 'triangle', 'star', 'ring', 'cross'))
model.update(roi_head=dict(bbox_head=dict(num_classes=6), mask_head=dict(num_classes=6)))
train_dataloader.update(num_workers=2, dataset=dict(metainfo=metainfo))
val_dataloader.update(num_workers=2, batch_size=2, dataset=dict(metainfo=metainfo))
test_dataloader = val_dataloader
train_cfg.update(max_epochs=2, val_interval=2)
param_scheduler = [dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=5)]
default_hooks.update(
    logger=dict(interval=1), checkpoint=dict(interval=2), result=dict(dataset='generated scenes')
)
