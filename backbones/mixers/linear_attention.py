"""Linear attention with rotary and local position encodings (Han et al., arXiv 2405.16605)."""

from torch import Tensor

from backbones.errors import BackboneError
from backbones.mixers.base import TokenMixer, head_dim
from backbones.ops.convolution import Convolution
from backbones.ops.linear import Linear
from backbones.ops.linear_attention import linear_attention, rotation_tables


class LinearAttention(TokenMixer):
    """Attention whose weights are products of positive features, so that its cost is linear in tokens.

    The values are the tokens themselves; the mixer has no projections of values and outputs. The rotary
    encoding turns queries and keys over all channels before they are split into heads, so that some
    heads see rows and others columns.

    Args:
        dim: number of channels C.
        block_index: unused; all blocks are the same.
        num_heads: number of attention heads.
        qkv_bias: whether the projection to queries and keys has a bias.
        rope: whether to turn queries and keys by the rotary position encoding.
        lepe: whether to add the local position encoding, a depthwise 3x3 convolution of the tokens.

    Raises:
        BackboneError: `dim` is not a multiple of `num_heads`, or of 4 with `rope`.
    """

    def __init__(
        self,
        dim: int,
        block_index: int,
        *,
        num_heads: int,
        qkv_bias: bool = True,
        rope: bool = True,
        lepe: bool = True,
    ) -> None:
        super().__init__()
        head_dim(dim, num_heads)
        if rope and dim % 4:
            raise BackboneError(
                f'dims: the rotary encoding turns pairs of channels by row and by column, but {dim} is '
                'not a multiple of 4; choose dims that are, or rope=False'
            )
        self.num_heads = num_heads
        self.rope = rope
        self.qk = Linear(dim, 2 * dim, bias=qkv_bias)
        self.lepe = Convolution(dim, dim, 3, padding=1, groups=dim) if lepe else None

    def forward(self, x: Tensor) -> Tensor:
        """Attend, (B, H, W, C) -> (B, H, W, C)."""
        down, across = None, None
        if self.rope:
            down, across = rotation_tables(*x.shape[1:], x.device, x.dtype)
        out = linear_attention(self.qk(x), x, down, across, self.num_heads)
        return out if self.lepe is None else out + self.lepe(x)
