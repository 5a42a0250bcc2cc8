"""Sampling of deformable convolution v4 as one operator (Xiong et al., arXiv 2401.06197, section 3).

There are three implementations: plain PyTorch (the reference), numba on the CPU, and Triton on CUDA.
"""

from torch import Tensor

from backbones.errors import BackboneError
from backbones.ops import dcnv4_reference

# The number of channels of `offset_mask` is a multiple of this.
MULTIPLE = 8


def dcnv4(value: Tensor, offset_mask: Tensor, kernel_size: int, offset_scale: float) -> Tensor:
    """Compute weighted sums of bilinear samples around every token; weights may be any numbers."""
    check_shapes(value, offset_mask, kernel_size)
    return dcnv4_reference.forward(value, offset_mask, kernel_size, offset_scale)


def offset_mask_channels(heads: int, kernel_size: int) -> int:
    """Return the channels P of `offset_mask`: 3 per point of each head, rounded up to `MULTIPLE`."""
    return -(-heads * 3 * kernel_size**2 // MULTIPLE) * MULTIPLE


def check_shapes(value: Tensor, offset_mask: Tensor, kernel_size: int) -> None:
    """Check the shapes; the compiled code does no bounds checks.

    Raises:
        BackboneError: the shapes are not those that `dcnv4` expects.
    """
    channels = offset_mask_channels(value.shape[3], kernel_size) if value.dim() == 5 else None
    if value.dim() != 5 or offset_mask.shape != (*value.shape[:3], channels):
        raise BackboneError(
            f'dcnv4: shapes of value {tuple(value.shape)} and offset_mask {tuple(offset_mask.shape)} '
            f'do not match; expected (B, H, W, heads, D) and (B, H, W, P), where P is '
            f'{3 * kernel_size**2} * heads rounded up to a multiple of {MULTIPLE}'
        )
