"""Agent attention (Han et al., arXiv 2312.08874, section 4)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.errors import BackboneError
from backbones.mixers.base import TokenMixer, head_dim
from backbones.ops.convolution import Convolution
from backbones.ops.linear import Linear, linear
from backbones.ops.tracing import is_traced

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
        for table in self.parameters(recurse=False):
            nn.init.trunc_normal_(table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Attend, (B, H, W, C) -> (B, H, W, C)."""
        size, heads = x.shape[1:3], (self.num_heads, x.shape[3] // self.num_heads)
        q = self.q(x)
        # Two products, since one would have to be cut, and its gradient put together.
        k, v = self._key_and_value(x)
        agents = F.adaptive_avg_pool2d(q.permute(0, 3, 1, 2), self.agent_shape).permute(0, 2, 3, 1)
        agents = agents * heads[1] ** -0.5
        queries, agents, keys, values = (
            y.flatten(1, 2).unflatten(-1, heads).transpose(1, 2) for y in (q, agents, k, v)
        )
        rows, columns = self.ah_bias[0, ..., 0], self.aw_bias[0, :, :, 0]
        bias = self._bias(self.an_bias, rows, columns, size)
        values = attention_of_agents(agents, keys, values, bias)
        rows, columns = self.ha_bias[0, :, :, 0].mT, self.wa_bias[0, :, 0].mT
        bias = self._bias(self.na_bias, rows, columns, size)
        out = attention_to_agents(queries, agents, values, bias)
        out = out.transpose(1, 2).unflatten(1, size)
        return self.proj((self.dwc(v).unflatten(-1, heads) + out).flatten(3))

    def _key_and_value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values, (B, H, W, C) each."""
        weights = self.kv.weight.chunk(2)
        biases = (None, None) if self.kv.bias is None else self.kv.bias.chunk(2)
        return linear(x, weights[0], biases[0]), linear(x, weights[1], biases[1])

    def _bias(self, table: Tensor, rows: Tensor, columns: Tensor, size: tuple[int, int]) -> Tensor:
        """Return biases between agents and tokens, (heads, agents, H * W).

        The agents are resized first, since the tables are smaller than the map.

        Args:
            table: (heads, agent_num, 7, 7).
            rows, columns: (heads, agent_num, bias_grid).
            size: height and width of the map.
        """
        table, rows, columns = (self._for_agents(part) for part in (table, rows, columns))
        table = F.interpolate(table, size, mode='bilinear')
        rows = F.interpolate(rows[..., None], (size[0], 1), mode='bilinear')
        columns = F.interpolate(columns[..., None, :], (1, size[1]), mode='bilinear')
        return (table + rows + columns).flatten(2)

    def _for_agents(self, table: Tensor) -> Tensor:
        """Resize the agents of a table, (heads, agent_num, ...) -> (heads, agents, ...)."""
        side = math.isqrt(table.shape[1])
        if self.agent_shape == (side, side):
            return table
        agents = table.flatten(2).mT.unflatten(-1, (side, side))
        agents = F.interpolate(agents, self.agent_shape, mode='bilinear')
        return agents.flatten(2).mT.unflatten(-1, table.shape[2:])


def attention_of_agents(agents: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Compute what agents gather from all tokens, softmax(agents k^T + bias) v.

    Args:
        agents: (B, heads, n, D), scaled.
        k, v: (B, heads, N, D).
        bias: (heads, n, N).

    Returns:
        (B, heads, n, D).
    """
    if not agents.is_cpu:
        bias = bias[None].to(agents.dtype)
        return F.scaled_dot_product_attention(agents, k, v, attn_mask=bias, scale=1.0)
    return _logits(agents, k, bias).softmax(-1, dtype=v.dtype) @ v


def attention_to_agents(q: Tensor, agents: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """Compute what tokens get from the agents, softmax(q agents^T + bias^T) values.

    Args:
        q: (B, heads, N, D).
        agents: (B, heads, n, D), scaled.
        values: (B, heads, n, D).
        bias: (heads, n, N).

    Returns:
        (B, heads, N, D).
    """
    if not q.is_cpu:
        bias = bias.mT[None].to(q.dtype).contiguous()
        return F.scaled_dot_product_attention(q, agents, values, attn_mask=bias, scale=1.0)
    # Rows of all tokens, since a softmax over short rows takes ten times as long.
    return _logits(agents, q, bias).softmax(-2, dtype=values.dtype).mT @ values


def _logits(agents: Tensor, tokens: Tensor, bias: Tensor) -> Tensor:
    """Return (B, heads, n, N).

    PyTorch's fused attention is slower on the CPU, and has no gradient of the bias there.
    """
    agents, bias = agents.to(tokens.dtype), bias.to(tokens.dtype)
    if is_traced():
        return agents @ tokens.mT + bias
    return _Logits.apply(agents, tokens, bias)


class _Logits(torch.autograd.Function):
    """agents tokens^T + bias, with a gradient of the tokens that has its channels last in memory."""

    @staticmethod
    def forward(ctx, agents: Tensor, tokens: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(agents, tokens)
        return (agents @ tokens.mT).add_(bias)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        agents, tokens = ctx.saved_tensors
        return grad @ tokens, grad.mT @ agents, grad.sum(0)
