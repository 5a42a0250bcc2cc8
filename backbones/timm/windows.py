"""Attention windows on maps of any size, by hooks on blocks of timm."""

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

# Subsets of blocks of a plain transformer, each of which ends in one block with global attention.
SUBSETS = 4


class PaddingBeforeShift:
    """Pad the map of a Swin block to whole windows before it is shifted, as the dense release does.

    timm shifts first, which puts other tokens into the windows at the borders unless the map consists
    of whole windows. The padding follows the first norm, and is cropped before drop path.

    Source: github.com/SwinTransformer/Swin-Transformer-Object-Detection, `SwinTransformerBlock`.

    Args:
        block: block with shifted windows; hooks are added to its parts.
    """

    def __init__(self, block: SwinTransformerBlock) -> None:
        self.window_size = block.window_size
        self.size = (0, 0)
        block.norm1.register_forward_hook(self._pad)
        block.drop_path1.register_forward_pre_hook(self._crop)

    def _pad(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, whole windows, whole windows, C), with zeros."""
        self.size = output.shape[1:3]
        below, right = (-n % side for n, side in zip(self.size, self.window_size, strict=True))
        return F.pad(output, (0, 0, 0, right, 0, below)) if below or right else output

    def _crop(self, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        """(B, whole windows, whole windows, C) -> (B, H, W, C)."""
        (x,) = inputs
        return (x[:, : self.size[0], : self.size[1]],)


def pad_before_shift(network: nn.Module) -> None:
    """Let all shifted blocks of a Swin Transformer pad before they shift; see `PaddingBeforeShift`."""
    for module in network.modules():
        if isinstance(module, SwinTransformerBlock) and any(module.shift_size):
            PaddingBeforeShift(module)


class AttentionWindows:
    """Restrict blocks of a plain vision transformer to windows without overlap (ViTDet).

    The last block of each quarter keeps global attention. Tokens are cut into windows before a block and
    put back after it, since blocks mix tokens only in attention. Maps are padded with zeros to whole
    windows. Each window gets a copy of the class and register tokens, which are averaged afterwards.

    Source: Li et al., arXiv 2203.16527, section 3.

    Args:
        blocks: blocks of the transformer; hooks are added to them. Tokens are (B, N, C).
        window_size: side of a window in tokens; 14 in the publication.
        prefix_tokens: number of class and register tokens, which come first.

    Attributes:
        grid: height and width of the map in tokens; set before each forward pass.
    """

    def __init__(self, blocks: nn.ModuleList, window_size: int, prefix_tokens: int) -> None:
        self.window_size = window_size
        self.prefix_tokens = prefix_tokens
        self.grid = (0, 0)
        last = {round(len(blocks) * (subset + 1) / SUBSETS) - 1 for subset in range(SUBSETS)}
        for index, block in enumerate(blocks):
            if index not in last:
                block.register_forward_pre_hook(self._cut)
                block.register_forward_hook(self._put_back)

    def _cut(self, block: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        """(B, N, C) -> (B * windows, tokens of a window, C)."""
        (x,) = inputs
        side, (rows, columns) = self.window_size, self._windows()
        batch, _, dim = x.shape
        prefix, tokens = x[:, : self.prefix_tokens], x[:, self.prefix_tokens :]
        tokens = tokens.reshape(batch, *self.grid, dim)
        height, width = self.grid
        tokens = F.pad(tokens, (0, 0, 0, columns * side - width, 0, rows * side - height))
        tokens = tokens.reshape(batch, rows, side, columns, side, dim).transpose(2, 3)
        tokens = tokens.reshape(batch * rows * columns, side * side, dim)
        prefix = prefix.repeat_interleave(rows * columns, 0)
        return (torch.cat([prefix, tokens], 1),)

    def _put_back(self, block: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        """(B * windows, tokens of a window, C) -> (B, N, C)."""
        side, (rows, columns) = self.window_size, self._windows()
        prefix, tokens = output[:, : self.prefix_tokens], output[:, self.prefix_tokens :]
        dim = output.shape[-1]
        batch = len(output) // (rows * columns)
        tokens = tokens.reshape(batch, rows, columns, side, side, dim).transpose(2, 3)
        tokens = tokens.reshape(batch, rows * side, columns * side, dim)
        height, width = self.grid
        tokens = tokens[:, :height, :width].reshape(batch, height * width, dim)
        prefix = prefix.reshape(batch, rows * columns, self.prefix_tokens, dim).mean(1)
        return torch.cat([prefix, tokens], 1)

    def _windows(self) -> tuple[int, int]:
        """Return the number of windows vertically and horizontally."""
        height, width = self.grid
        return -(-height // self.window_size), -(-width // self.window_size)
