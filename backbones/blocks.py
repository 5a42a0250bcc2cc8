"""The parts of the unified architecture (arXiv 2211.05781, section 3) that all mixers share.

Feature maps are (B, H, W, C) between the parts. Such a tensor is a channels_last (B, C, H, W) tensor in
memory, so convolutions see it through a view.
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
    """Two strided convolutions, (B, H, W, 3) -> (B, H / 4, W / 4, C), each division rounded up.

    Args:
        in_channels: channels of the image.
        dim: channels C; half as many between the convolutions.
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
    """Strided convolution between stages, (B, H, W, C) -> (B, H / 2, W / 2, C'), rounded up.

    Args:
        in_dim: channels C.
        dim: channels C'.
    """

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = Convolution(in_dim, dim, 3, stride=2, padding=1, bias=False)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H / 2, W / 2, C')."""
        return self.norm(self.conv(x))


class PositionEmbedding(nn.Module):
    """Learnt absolute positions, resized to the map that they are added to.

    Args:
        dim: channels C.
        size: height and width of the learnt map.
    """

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, dim, size, size))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Add the positions, (B, H, W, C) -> (B, H, W, C)."""
        positions = F.interpolate(self.weight, x.shape[1:3], mode='bilinear', align_corners=True)
        return x + positions.permute(0, 2, 3, 1).to(x.dtype)


class LayerScale(nn.Module):
    """Learnt factor a channel (Touvron et al., CaiT, arXiv 2103.17239, eq. 2).

    Args:
        dim: channels C.
        init_value: what every factor starts at.
    """

    def __init__(self, dim: int, init_value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), float(init_value)))

    def forward(self, shortcut: Tensor, branch: Tensor, kept: Tensor | None) -> Tensor:
        """Add a scaled branch to its shortcut in one pass over memory.

        Args:
            shortcut, branch: (B, H, W, C).
            kept: factor a sample, (B, 1, 1, 1), of drop path; None for 1.

        Returns:
            (B, H, W, C).
        """
        factor = self.gamma if kept is None else self.gamma * kept
        return torch.addcmul(shortcut, branch, factor)


class Block(nn.Module):
    """Mixer and MLP, each normed before, scaled and added to its input, (B, H, W, C) -> (B, H, W, C).

    Args:
        dim: channels C.
        mixer: the spatial token mixer.
        mlp_ratio: hidden channels of the MLP, as a multiple of C.
        drop_path: probability of leaving a branch out of a sample in training.
        layer_scale_init_value: start of both layer scales.
        pos_embed_size: side of a learnt position embedding; None for no embedding.
        pos_embed_on_shortcut: whether the shortcut has the positions too, or the mixer's branch alone.
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
        """Factors of drop path, (B, 1, 1, 1): 0 for a dropped sample, else what keeps the mean."""
        if not (self.training and self.drop_path.drop_prob):
            return None
        return self.drop_path(x.new_ones(x.shape[0], 1, 1, 1))
