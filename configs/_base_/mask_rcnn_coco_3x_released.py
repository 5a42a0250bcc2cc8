"""`mask_rcnn_coco_3x.py` with the weight decay of the release and of published figures.

    bash tools/dist_train.sh my_leaf.py 8 --pretrained released --amp

A leaf of this recipe imports this page instead of `mask_rcnn_coco_1x`.

The release exempts a parameter only if its released name contains `norm`, `absolute_pos_embed` or
`relative_position_bias_table`. Unlike the fair page, it decays the norms of stem and downsampling,
halo's relative positions and pvt's position embeddings. Everything else is the same.
"""

from mmengine.config import read_base

with read_base():
    from .mask_rcnn_coco_3x import *

optim_wrapper.update(constructor='ReleasedDecayConstructor')
del optim_wrapper['paramwise_cfg']
