"""What a spatial token mixer is."""

from typing import ClassVar

from torch import Tensor, nn

from backbones.errors import BackboneError


class TokenMixer(nn.Module):
    """A spatial token mixer: (B, H, W, C) -> (B, H, W, C) for any H and W.

    The block that holds it owns the norms, the residual, layer scale and drop path. A subclass takes
    `dim` (C) and `block_index` (position in its stage, for mixers that alternate), which the backbone
    gives, then its own options by keyword, which come from the config; an option given there as a
    sequence has one entry a stage.

    Attributes:
        norm_eps: epsilon of the LayerNorms of a block with this mixer.
    """

    norm_eps: ClassVar[float] = 1e-6

    def reset_parameters(self) -> None:
        """Set what must not start from the backbone's truncated normal; by default nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens, (B, H, W, C) -> (B, H, W, C)."""
        raise NotImplementedError


def head_dim(dim: int, num_heads: int) -> int:
    """Channels of a head.

    Raises:
        BackboneError: `dim` is not a multiple of `num_heads`.
    """
    if num_heads < 1 or dim % num_heads:
        raise BackboneError(
            f'dims: {dim} channels cannot be split into num_heads={num_heads}; '
            'choose num_heads that divide dims in every stage'
        )
    return dim // num_heads


def odd_kernel_size(kernel_size: int) -> int:
    """`kernel_size` itself.

    Raises:
        BackboneError: it is even or not positive, so that the map would change its size.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise BackboneError(f'kernel_size={kernel_size}: choose an odd number')
    return kernel_size
