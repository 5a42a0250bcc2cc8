"""2D selective scan (Liu et al., VMamba, arXiv 2401.10166, SS2D without its gate)."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.errors import BackboneError
from backbones.mixers.base import TokenMixer, odd_kernel_size
from backbones.ops.convolution import Convolution
from backbones.ops.linear import Linear, cast_once, linear
from backbones.ops.selective_scan import selective_scan

# Step sizes at the start: log-uniform in this range.
SMALLEST_STEP, LARGEST_STEP = 1e-3, 1e-1


class SelectiveScan2D(TokenMixer):
    """Scan the map along rows and columns, in both directions, with decays that depend on the token.

    In each direction, every channel has a state of `d_state` numbers, which a token first lets decay,
    then adds itself to, and finally reads.

    Args:
        dim: number of channels C.
        block_index: unused; all blocks are the same.
        d_state: size of the state of a channel, S.
        ssm_ratio: the scan has D = int(ssm_ratio * C) channels.
        dt_rank: rank R of the projection to step sizes; `auto` is C / 16, rounded up.
        d_conv: kernel size of the depthwise convolution before the scan; odd.
        conv_bias: whether this convolution has a bias.

    Raises:
        BackboneError: an option is out of range.
    """

    def __init__(
        self,
        dim: int,
        block_index: int,
        *,
        d_state: int = 1,
        ssm_ratio: float = 1.0,
        dt_rank: int | Literal['auto'] = 'auto',
        d_conv: int = 3,
        conv_bias: bool = False,
    ) -> None:
        super().__init__()
        inner, rank = int(ssm_ratio * dim), math.ceil(dim / 16) if dt_rank == 'auto' else dt_rank
        if inner < 1:
            raise BackboneError(
                f'ssm_ratio={ssm_ratio} leaves no channels of {dim}; choose a larger ratio'
            )
        if not isinstance(rank, int) or rank < 1:
            raise BackboneError(f"dt_rank={dt_rank!r}: choose 'auto' or a positive integer")
        if d_state < 1:
            raise BackboneError(f'd_state={d_state}: choose a positive integer')
        self.in_proj = Linear(dim, inner, bias=False)
        side = odd_kernel_size(d_conv, 'd_conv')
        self.conv2d = Convolution(inner, inner, side, padding=side // 2, groups=inner, bias=conv_bias)
        self.x_proj_weight = nn.Parameter(torch.empty(4, rank + 2 * d_state, inner))
        self.dt_projs_weight = nn.Parameter(torch.empty(4, inner, rank))
        self.dt_projs_bias = nn.Parameter(torch.empty(4, inner))
        self.A_logs = nn.Parameter(torch.empty(4 * inner, d_state))
        self.Ds = nn.Parameter(torch.empty(4 * inner))
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = Linear(inner, dim, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize the scan as Mamba does (Gu and Dao, arXiv 2312.00752, Sec. 3.6)."""
        rank, inner = self.dt_projs_weight.shape[2], self.dt_projs_weight.shape[1]
        nn.init.uniform_(self.x_proj_weight, -(inner**-0.5), inner**-0.5)
        nn.init.uniform_(self.dt_projs_weight, -(rank**-0.5), rank**-0.5)
        with torch.no_grad():
            step = nn.init.uniform_(
                self.dt_projs_bias, math.log(SMALLEST_STEP), math.log(LARGEST_STEP)
            ).exp()
            # The inverse of softplus.
            self.dt_projs_bias.copy_(step + (-torch.expm1(-step)).log())
            self.A_logs.copy_(torch.arange(1, self.A_logs.shape[1] + 1).log().expand_as(self.A_logs))
        nn.init.ones_(self.Ds)

    def forward(self, x: Tensor) -> Tensor:
        """Scan and sum, (B, H, W, C) -> (B, H, W, C)."""
        u = cast_once(F.silu(self.conv2d(self.in_proj(x))))
        # Projections are the same at all positions, so they can be computed before the scan orders them.
        projected = linear(u, self.x_proj_weight.flatten(0, 1), None)
        total = selective_scan(
            u,
            projected.unflatten(-1, self.x_proj_weight.shape[:2]),
            self.dt_projs_weight,
            self.dt_projs_bias,
            self.A_logs,
            self.Ds,
        )
        norm = self.out_norm
        # The sum is at least float32, even if the parameters are not.
        scale, shift = norm.weight.to(total.dtype), norm.bias.to(total.dtype)
        out = F.layer_norm(total, norm.normalized_shape, scale, shift, norm.eps)
        return self.out_proj(out.to(u.dtype))
