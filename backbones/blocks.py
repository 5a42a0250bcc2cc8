"""Parts of the unified architecture that all mixers share (arXiv 2211.05781, section 3).

Feature maps between the parts are (B, H, W, C). In memory, such a tensor is the same as a channels_last
(B, C, H, W) tensor, so convolutions take it through a view.
"""

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from backbones.mixers import TokenMixer
from backbones.ops.convolution import Convolution
from backbones.ops.linear import Mlp, cast_once

NORM_EPS = 1e-6


class Stem(nn.Module):
    """Two strided convolutions, (B, H, W, 3) -> (B, H / 4, W / 4, C), sizes rounded up.

    Args:
        in_channels: number of image channels.
        dim: number of output channels C; there are C / 2 between the convolutions.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.conv1 = Convolution(in_channels, dim // 2, 3, stride=2, padding=1)
        self.norm1 = nn.LayerNorm(dim // 2, eps=NORM_EPS)
        self.conv2 = Convolution(dim // 2, dim, 3, stride=2, padding=1)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, 3) -> (B, H / 4, W / 4, C)."""
        x = F.gelu(self.norm1(self.conv1(x)))
        return self.norm2(self.conv2(x))


class Downsample(nn.Module):
    """Strided convolution between stages, (B, H, W, C) -> (B, H / 2, W / 2, C'), sizes rounded up.

    Args:
        in_dim: number of input channels C.
        dim: number of output channels C'.
    """

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = Convolution(in_dim, dim, 3, stride=2, padding=1, bias=False)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H / 2, W / 2, C')."""
        return self.norm(self.conv(x))


class PositionEmbedding(nn.Module):
    """Learned absolute position embedding, resized to the map it is added to.

    Args:
        dim: number of channels C.
        size: height and width of the learned map.
    """

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, dim, size, size))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Add the embedding, (B, H, W, C) -> (B, H, W, C)."""
        positions = F.interpolate(self.weight, x.shape[1:3], mode='bilinear', align_corners=True)
        return x + positions.permute(0, 2, 3, 1).to(x.dtype)


class LayerScale(nn.Module):
    """Learned scale per channel (Touvron et al., CaiT, arXiv 2103.17239, eq. 2).

    Args:
        dim: number of channels C.
        init_value: initial value of every scale.
    """

    def __init__(self, dim: int, init_value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), float(init_value)))

    def forward(self, shortcut: Tensor, branch: Tensor, kept: Tensor | None) -> Tensor:
        """Add the scaled branch to its shortcut in one pass over memory.

        Args:
            shortcut, branch: (B, H, W, C).
            kept: drop path's factor for each sample, (B, 1, 1, 1); None means 1.

        Returns:
            (B, H, W, C).
        """
        factor = self.gamma if kept is None else self.gamma * kept
        return torch.addcmul(shortcut, branch, factor)


class Block(nn.Module):
    """Pre-norm residual block of mixer and MLP with layer scale, (B, H, W, C) -> (B, H, W, C).

    Args:
        dim: number of channels C.
        mixer: spatial token mixer.
        mlp_ratio: hidden channels of the MLP, as a multiple of C.
        drop_path: probability of dropping a branch for a sample during training.
        layer_scale_init_value: initial value of both layer scales.
        pos_embed_size: side of the learned position embedding; None for no embedding.
        pos_embed_on_shortcut: whether to add the positions to the shortcut too, not only to the mixer's
            branch.
    """

    def __init__(
        self,
        dim: int,
        mixer: TokenMixer,
        *,
        mlp_ratio: float,
        drop_path: float,
        layer_scale_init_value: float,
        pos_embed_size: int | None,
        pos_embed_on_shortcut: bool,
    ) -> None:
        super().__init__()
        self.pos_embed = PositionEmbedding(dim, pos_embed_size) if pos_embed_size else nn.Identity()
        self.pos_embed_on_shortcut = pos_embed_on_shortcut
        self.norm1 = nn.LayerNorm(dim, eps=mixer.norm_eps)
        self.mixer = mixer
        self.layer_scale1 = LayerScale(dim, layer_scale_init_value)
        self.norm2 = nn.LayerNorm(dim, eps=mixer.norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.layer_scale2 = LayerScale(dim, layer_scale_init_value)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        placed = self.pos_embed(x)
        shortcut = placed if self.pos_embed_on_shortcut else x
        x = self.layer_scale1(shortcut, self.mixer(cast_once(self.norm1(placed))), self._kept(x))
        return self.layer_scale2(x, self.mlp(self.norm2(x)), self._kept(x))

    def _kept(self, x: Tensor) -> Tensor | None:
        """Return drop path's factors, (B, 1, 1, 1): 0 if dropped, else 1 / (1 - probability)."""
        if not (self.training and self.drop_path.drop_prob):
            return None
        return self.drop_path(x.new_ones(x.shape[0], 1, 1, 1))
