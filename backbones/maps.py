"""What dense models expect from a backbone: maps, image sizes, and the normalization of images."""

from torch import Tensor, nn

from backbones.errors import BackboneError

STRIDES = (4, 8, 16, 32)
# In pixels. Smaller images have no map at the last stride.
SMALLEST_SIDE = STRIDES[-1]
NORMALIZATION = ('mean', 'std')


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


def normalization_of(network: nn.Module, name: str) -> dict[str, list[float]] | None:
    """Return `mean` and `std` of images that the weights of a network expect; None if it states none.

    Args:
        network: a backbone; its attribute `normalization` states them per channel in RGB order, for
            values from 0 to 255.
        name: its name in messages.

    Raises:
        BackboneError: there is not one number for each of three channels, or they are for values from 0
            to 1.
    """
    stated = getattr(network, 'normalization', None)
    if stated is None:
        return None
    try:
        found = {key: [float(value) for value in stated[key]] for key in NORMALIZATION}
    except (KeyError, TypeError, ValueError):
        found = {}
    if not found or any(len(values) != 3 for values in found.values()):
        raise BackboneError(
            f'{name}.normalization is {stated!r}; give dict(mean=[...], std=[...]) for values from 0 to '
            '255 in RGB order'
        )
    if max(found['mean'] + found['std']) <= 1:
        raise BackboneError(
            f'{name}.normalization is {stated!r}, which is for values from 0 to 1; multiply it by 255'
        )
    return found
