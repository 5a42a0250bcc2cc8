"""Base class of spatial token mixers."""

from typing import ClassVar

from torch import Tensor, nn

from backbones.errors import BackboneError


class TokenMixer(nn.Module):
    """A spatial token mixer: (B, H, W, C) -> (B, H, W, C) for any H and W.

    The enclosing block has the norms, the residual, layer scale and drop path. The backbone passes a
    subclass `dim` (C) and `block_index` (position in its stage, for mixers that alternate), then, as
    keywords, the mixer's own options from the config. A sequence in the config has one entry per stage.

    Attributes:
        norm_eps: epsilon of the LayerNorms in a block with this mixer.
    """

    norm_eps: ClassVar[float] = 1e-6

    def reset_parameters(self) -> None:
        """Initialize parameters that need more than the backbone's truncated normal; none by default."""

    def translate(self, weights: dict[str, Tensor], prefix: str) -> None:
        """Convert weights under `prefix` in place from another form of this mixer; none by default."""

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens, (B, H, W, C) -> (B, H, W, C)."""
        raise NotImplementedError


def head_dim(dim: int, num_heads: int) -> int:
    """Return the number of channels per head.

    Raises:
        BackboneError: `dim` is not a multiple of `num_heads`.
    """
    if num_heads < 1 or dim % num_heads:
        raise BackboneError(
            f'dims: {dim} channels cannot be split into num_heads={num_heads}; '
            'choose num_heads that divide dims in every stage'
        )
    return dim // num_heads


def odd_kernel_size(kernel_size: int, option: str = 'kernel_size') -> int:
    """Return `kernel_size` after checking that it preserves the size of the map.

    Args:
        kernel_size: side of a kernel, in tokens.
        option: its name, for the message.

    Raises:
        BackboneError: `kernel_size` is even or not positive.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise BackboneError(f'{option}={kernel_size}: choose an odd number')
    return kernel_size
