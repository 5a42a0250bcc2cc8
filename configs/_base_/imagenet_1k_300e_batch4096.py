"""`imagenet_1k_300e.py` with 4096 images per step, as in the training of ConvNeXt and InternImage.

Use 512 images on each of 8 GPUs; `--auto-scale-lr` adapts the learning rate to a different number. The
learning rate decreases to 1e-6. For weight decay as in the release, see
`imagenet_1k_300e_batch4096_released.py`.
"""

from mmengine.config import read_base

with read_base():
    from .imagenet_1k_300e import *

train_dataloader.update(batch_size=512)
optim_wrapper.optimizer.update(lr=4e-3)
param_scheduler[1].update(eta_min=1e-6)
auto_scale_lr.update(base_batch_size=4096)
