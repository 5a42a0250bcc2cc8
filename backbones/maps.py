"""Maps that dense models expect from a backbone, and the images that they need."""

from torch import Tensor

from backbones.errors import BackboneError

STRIDES = (4, 8, 16, 32)
# In pixels. Smaller images have no map at the last stride.
SMALLEST_SIDE = STRIDES[-1]


def check_image_size(images: Tensor) -> None:
    """Check that images (B, 3, H, W) are large enough for maps at all strides.

    Raises:
        BackboneError: a side is smaller than 32 pixels.
    """
    height, width = images.shape[-2:]
    if min(height, width) < SMALLEST_SIDE:
        raise BackboneError(
            f'input of {height}x{width} pixels (height x width): '
            f'both sides must be at least {SMALLEST_SIDE}'
        )
