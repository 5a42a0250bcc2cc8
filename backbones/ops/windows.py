"""Cut feature maps into windows and merge them again."""

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, size: int) -> Tensor:
    """Zero-pad right and bottom to multiples of `size`, (B, H, W, C) -> (B, H', W', C)."""
    height, width = x.shape[1:3]
    bottom, right = -height % size, -width % size
    return F.pad(x, (0, 0, 0, right, 0, bottom)) if bottom or right else x


def partition(x: Tensor, size: int) -> Tensor:
    """Cut into windows, (B, H, W, C) -> (B, H / size, W / size, size * size, C)."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // size, size, width // size, size, channels)
    return x.transpose(2, 3).reshape(batch, height // size, width // size, size * size, channels)


def merge(windows: Tensor, size: int) -> Tensor:
    """Undo `partition`, (B, H / size, W / size, size * size, C) -> (B, H, W, C)."""
    batch, rows, columns, _, channels = windows.shape
    x = windows.view(batch, rows, columns, size, size, channels).transpose(2, 3)
    return x.reshape(batch, rows * size, columns * size, channels)
