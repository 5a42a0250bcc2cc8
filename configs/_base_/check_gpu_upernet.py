"""UperNet on generated scenes at the full size of ADE20K's recipe: 20 steps, for `tools/check_gpu.py`.

    python tools/check_gpu.py --stages training

Data of `evaluation/gpu_check/suite_commands.py`: scenes of 512x512 pixels in ADE20K's layout.
"""

from mmengine.config import read_base

with read_base():
    from .upernet_ade20k_160k import *

recipe.update(
    name='check_gpu_upernet',
    dataset='generated scenes',
    images=None,
    epochs=None,
    iterations=None,
    batch_size=None,
    start=None,
)
classes = ('ground', 'sky', 'disc', 'square', 'triangle', 'star', 'ring', 'cross')
model.update(decode_head=dict(num_classes=8), auxiliary_head=dict(num_classes=8))
data = dict(
    type='BaseSegDataset',
    metainfo=dict(classes=classes),
    reduce_zero_label=True,
    img_suffix='.jpg',
    seg_map_suffix='.png',
)
train_pipeline[1].update(num_classes=8)
test_pipeline[1].update(scale=crop_size)
train_dataloader.update(num_workers=2, dataset=data)
val_dataloader.update(num_workers=2, batch_size=2, dataset=data)
test_dataloader = val_dataloader
train_cfg.update(max_iters=20, val_interval=20)
param_scheduler = [dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=5)]
default_hooks.update(
    logger=dict(interval=1), checkpoint=dict(interval=20), result=dict(dataset='generated scenes')
)
