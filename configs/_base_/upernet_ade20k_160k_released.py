"""`upernet_ade20k_160k.py` with weight decay by released names, as in the release of Mask R-CNN.

    bash tools/dist_train.sh configs/upernet_halo_tiny.py 8 --pretrained released --amp \
      --cfg-options optim_wrapper.constructor=ReleasedDecayConstructor --work-dir work_dirs/released

The command above does the same without a leaf. A leaf of this recipe imports this page instead of
`upernet_ade20k_160k`.

Swin's UperNet recipe exempts a parameter if its name contains `norm`, `absolute_pos_embed` or
`relative_position_bias_table`. Unlike the fair page, this one decays the norms of stem and downsampling,
halo's relative positions and pvt's position embeddings, due to their released names. Everything else is
the same. Nobody has released UperNet with the unified backbones.
"""

from mmengine.config import read_base

with read_base():
    from .upernet_ade20k_160k import *

optim_wrapper.update(constructor='ReleasedDecayConstructor')
del optim_wrapper['paramwise_cfg']
