"""Agent attention (Han et al., arXiv 2312.08874, section 4)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.errors import BackboneError
from backbones.mixers.base import TokenMixer, head_dim
from backbones.ops.convolution import Convolution
from backbones.ops.linear import Linear

# Side of the tables of biases between agents and parts of the map.
BIAS_SIDE = 7


class AgentAttention(TokenMixer):
    """Attention through a few agents, which are pooled queries.

    The agents attend to all tokens, then all tokens attend to the agents. Learned biases tell where an
    agent and a token are; their tables are resized to the map and to the number of agents.

    Args:
        dim: number of channels C.
        block_index: unused; all blocks are the same.
        num_heads: number of attention heads.
        agent_num: number of agents in the tables of biases; a square.
        bias_grid: length of the tables of biases for rows and for columns.
        agent_shape: rows and columns of agents; None for the square of `agent_num` agents.
        qkv_bias: whether the projections to queries, keys and values have a bias.

    Raises:
        BackboneError: `dim` is not a multiple of `num_heads`, `agent_num` is not a square, or a size is
            not positive.
    """

    norm_eps = 1e-5

    def __init__(
        self,
        dim: int,
        block_index: int,
        *,
        num_heads: int,
        agent_num: int = 49,
        bias_grid: int,
        agent_shape: tuple[int, int] | None = None,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__()
        head_dim(dim, num_heads)
        side = math.isqrt(max(agent_num, 0))
        if side == 0 or side**2 != agent_num:
            raise BackboneError(f'agent_num={agent_num}: choose a square, such as 49')
        self.agent_shape = (side, side) if agent_shape is None else tuple(agent_shape)
        if len(self.agent_shape) != 2 or min(self.agent_shape) < 1:
            raise BackboneError(f'agent_shape={agent_shape}: choose two positive numbers')
        if bias_grid < 1:
            raise BackboneError(f'bias_grid={bias_grid}: choose a positive number')
        self.num_heads = num_heads
        self.q = Linear(dim, dim, bias=qkv_bias)
        self.kv = Linear(dim, 2 * dim, bias=qkv_bias)
        self.proj = Linear(dim, dim)
        self.dwc = Convolution(dim, dim, 3, padding=1, groups=dim)
        for name, shape in {
            'an_bias': (num_heads, agent_num, BIAS_SIDE, BIAS_SIDE),
            'na_bias': (num_heads, agent_num, BIAS_SIDE, BIAS_SIDE),
            'ah_bias': (1, num_heads, agent_num, bias_grid, 1),
            'aw_bias': (1, num_heads, agent_num, 1, bias_grid),
            'ha_bias': (1, num_heads, bias_grid, 1, agent_num),
            'wa_bias': (1, num_heads, 1, bias_grid, agent_num),
        }.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))

    def reset_parameters(self) -> None:
        """Initialize the tables of biases from a truncated normal with std 0.02."""
        for name, table in self.named_parameters(recurse=False):
            assert name.endswith('_bias')
            nn.init.trunc_normal_(table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Attend, (B, H, W, C) -> (B, H, W, C)."""
        size = x.shape[1:3]
        q = self.q(x)
        k, v = self.kv(x).chunk(2, dim=-1)
        agents = F.adaptive_avg_pool2d(q.permute(0, 3, 1, 2), self.agent_shape).permute(0, 2, 3, 1)
        out, agents, keys, values = (
            t.flatten(1, 2).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for t in (q, agents, k, v)
        )
        to_tokens = self._bias(self.an_bias, self.ah_bias[0], self.aw_bias[0], size)
        across = (t[0].permute(0, 3, 1, 2) for t in (self.ha_bias, self.wa_bias))
        to_agents = self._bias(self.na_bias, *across, size).transpose(1, 2)
        values = F.scaled_dot_product_attention(agents, keys, values, attn_mask=to_tokens.to(q.dtype))
        out = F.scaled_dot_product_attention(out, agents, values, attn_mask=to_agents.to(q.dtype))
        out = out.transpose(1, 2).reshape(x.shape)
        return self.proj(out + self.dwc(v))

    def _bias(self, table: Tensor, rows: Tensor, columns: Tensor, size: tuple[int, int]) -> Tensor:
        """Return biases between agents and tokens, (heads, agents, H * W).

        Args:
            table: (heads, agent_num, 7, 7).
            rows, columns: (heads, agent_num, bias_grid, 1) and (heads, agent_num, 1, bias_grid).
            size: height and width of the map.
        """
        parts = (self._for_agents(part) for part in (table, rows, columns))
        sizes = (size, (size[0], 1), (1, size[1]))
        table, rows, columns = (resize(part, to) for part, to in zip(parts, sizes, strict=True))
        return (table + rows + columns).flatten(2)

    def _for_agents(self, table: Tensor) -> Tensor:
        """Resize the agents of a table, (heads, agent_num, h, w) -> (heads, agents, h, w)."""
        side = math.isqrt(table.shape[1])
        if self.agent_shape == (side, side):
            return table
        heads, _, *rest = table.shape
        table = table.flatten(2).transpose(1, 2).reshape(heads, -1, side, side)
        table = resize(table, self.agent_shape).flatten(2)
        return table.transpose(1, 2).unflatten(2, tuple(rest))


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate bilinearly, (..., h, w) -> (..., *size)."""
    return F.interpolate(x, size, mode='bilinear')
