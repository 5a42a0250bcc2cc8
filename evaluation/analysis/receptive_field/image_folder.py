"""Images of a folder, resized to squares of the same size."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from mmengine.structures import BaseDataElement
from PIL import Image
from torch import Tensor, nn

from evaluation.analysis.adapter import as_tensors
from evaluation.data.image_files import read_whole
from evaluation.data.image_loading import decoded
from evaluation.utils.errors import UserError

SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
ADVICE = 'restore it, or remove it from the folder'
# Stride of the backbone's last map. Images whose sides are not multiples would be padded, which moves
# their center.
STRIDE = 32


@dataclass(frozen=True)
class ImageFile:
    """An image file, and the SHA-256 of its content when it was found."""

    path: Path
    sha256: str


def find_images(folder: Path, limit: int | None = None) -> list[ImageFile]:
    """Return the images directly in a folder, sorted by name.

    Args:
        folder: folder of images.
        limit: number of images to take; None for all.

    Raises:
        UserError: the folder does not exist or has no images, or a file is truncated or unreadable.
    """
    if not folder.is_dir():
        raise UserError(f'--images {folder} is not a folder; give a folder of images')
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        kinds = ', '.join(SUFFIXES)
        raise UserError(f'--images {folder} has no images; give a folder with images ({kinds})')
    return [ImageFile(path, _sha256_of_whole(path)) for path in paths[:limit]]


def digest_of_images(files: Sequence[ImageFile]) -> str:
    """Return the SHA-256 of the names and contents of images, in order."""
    lines = ''.join(f'{file.path.name} {file.sha256}\n' for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def load_image(path: Path, size: int) -> np.ndarray:
    """Read an image, resize its shorter side and crop the center: (size, size, 3), uint8, BGR.

    Raises:
        UserError: the image cannot be decoded.
    """
    return middle_square(_decoded(path), size)


def load_squashed_image(path: Path, size: int) -> np.ndarray:
    """Read an image and resize it to a square, ignoring the aspect ratio: (size, size, 3), uint8, BGR.

    Raises:
        UserError: the image cannot be decoded.
    """
    return np.asarray(Image.fromarray(_decoded(path)).resize((size, size), Image.Resampling.BICUBIC))


def middle_square(image: np.ndarray, size: int) -> np.ndarray:
    """Resize the shorter side to `size` and crop the center, (H, W, 3) -> (size, size, 3)."""
    height, width = image.shape[:2]
    scale = size / min(height, width)
    new_height, new_width = (max(round(side * scale), size) for side in (height, width))
    # Averaging over areas avoids aliasing.
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, (new_width, new_height), interpolation=interpolation)
    top, left = (new_height - size) // 2, (new_width - size) // 2
    return resized[top : top + size, left : left + size]


def model_input(model: nn.Module, images: Sequence[np.ndarray]) -> Tensor:
    """Apply the model's preprocessor to images.

    Args:
        model: detector or segmentor on its device.
        images: images (H, W, 3), uint8, BGR, all of the same size.

    Returns:
        (B, 3, H, W), normalized, on the model's device.

    Raises:
        UserError: the preprocessor pads images of this size.
    """
    inputs = as_tensors(images)
    samples = [BaseDataElement() for _ in images]
    prepared = model.data_preprocessor({'inputs': inputs, 'data_samples': samples})['inputs']
    if prepared.shape[2:] != inputs[0].shape[1:]:
        given, made = ('x'.join(map(str, x.shape[-2:])) for x in (inputs[0], prepared))
        raise UserError(
            f'model.data_preprocessor pads images from {given} to {made}; give a --size that needs no '
            'padding'
        )
    return prepared


def _sha256_of_whole(path: Path) -> str:
    return hashlib.sha256(read_whole(str(path), None, ADVICE)).hexdigest()


def _decoded(path: Path) -> np.ndarray:
    return decoded(read_whole(str(path), None, ADVICE), str(path), advice=ADVICE)
