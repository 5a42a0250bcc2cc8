"""`imagenet_1k_300e_batch4096.py` with the weight decay of the release and of published figures.

    bash tools/dist_train.sh configs/imagenet_convnext_tiny.py 8 --amp \
      --cfg-options optim_wrapper.constructor=ReleasedDecayConstructor --work-dir work_dirs/released

The command above does the same without a leaf. A leaf of this recipe imports this page instead of
`imagenet_1k_300e_batch4096`.

The release exempts one-dimensional parameters, biases and swin's relative positions from weight decay.
Unlike the fair page, it decays the layer scales of halo and convnext, which are 4D there, halo's
relative positions and pvt's position embeddings. Everything else is the same.
"""

from mmengine.config import read_base

with read_base():
    from .imagenet_1k_300e_batch4096 import *

optim_wrapper.update(constructor='ReleasedDecayConstructor')
del optim_wrapper['paramwise_cfg']
