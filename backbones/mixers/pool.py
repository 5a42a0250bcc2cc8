"""Average pooling (Yu et al., MetaFormer, arXiv 2111.11418, eq. 4)."""

import torch.nn.functional as F
from torch import Tensor

from backbones.mixers.base import TokenMixer, odd_kernel_size


class Pooling(TokenMixer):
    """Mean of a neighborhood, minus the token itself; no parameters.

    The mean is over the tokens inside the map, as in the published code; the paper's equation divides by
    `pool_size` ** 2 at the borders too.

    Args:
        dim: unused; any number of channels C.
        block_index: unused; all blocks are the same.
        pool_size: side of the neighborhood, in tokens; odd.

    Raises:
        BackboneError: `pool_size` is even.
    """

    def __init__(self, dim: int, block_index: int, *, pool_size: int = 3) -> None:
        super().__init__()
        self.pool_size = odd_kernel_size(pool_size, 'pool_size')

    def forward(self, x: Tensor) -> Tensor:
        """Pool, (B, H, W, C) -> (B, H, W, C)."""
        size = self.pool_size
        mean = F.avg_pool2d(x.permute(0, 3, 1, 2), size, 1, size // 2, count_include_pad=False)
        return mean.permute(0, 2, 3, 1) - x
