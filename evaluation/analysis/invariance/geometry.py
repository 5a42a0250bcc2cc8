"""Affine maps of an image onto itself; coordinates in pixels, 0 at the outer edge of the first."""

import math
from dataclasses import dataclass

import numpy as np

# Sines and cosines of right angles are whole, but for this.
_ROUNDING = 12


@dataclass(frozen=True)
class Affine:
    """Where points come to.

    Attributes:
        matrix: (2, 3), applied to x, y and 1.
    """

    matrix: np.ndarray

    def points(self, points: np.ndarray) -> np.ndarray:
        """Map points (N, 2), each x and y."""
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]

    @property
    def area_ratio(self) -> float:
        """Area of anything after, to that before."""
        return abs(float(np.linalg.det(self.matrix[:, :2])))

    @property
    def keeps_boxes(self) -> bool:
        """Whether sides that are parallel to those of the image stay so."""
        linear = self.matrix[:, :2] != 0
        return bool((linear.sum(0) == 1).all() and (linear.sum(1) == 1).all())

    def of_middles(self) -> np.ndarray:
        """The matrix for coordinates that count from the middle of the first pixel, as OpenCV's do."""
        shifted = self.matrix.copy()
        shifted[:, 2] += self.matrix[:, :2] @ [0.5, 0.5] - 0.5
        return shifted


def translation(right: float, down: float) -> Affine:
    """Move everything."""
    return Affine(np.array([[1.0, 0.0, right], [0.0, 1.0, down]]))


def rotation(degrees: float, size: tuple[int, int]) -> Affine:
    """Turn counter-clockwise about the middle of an image of a height and width."""
    cosine, sine = (
        round(function(math.radians(degrees)), _ROUNDING) + 0.0 for function in (math.cos, math.sin)
    )
    return about_middle(np.array([[cosine, sine], [-sine, cosine]]), size)


def zoom(crop_ratio: float, size: tuple[int, int]) -> Affine:
    """Enlarge a crop to the whole image; crops of more than the image make it smaller.

    Smaller images have whole pixels, and lie on whole pixels in the middle.

    Args:
        crop_ratio: height of the crop as a share of the image's.
        size: height and width of the image.
    """
    if crop_ratio <= 1:
        return about_middle(np.eye(2) / crop_ratio, size)
    height, width = size
    inner_height, inner_width = shrunk(crop_ratio, size)
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    return Affine(np.array([[inner_width / width, 0.0, left], [0.0, inner_height / height, top]]))


def shrunk(crop_ratio: float, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of an image that a larger crop holds."""
    height, width = (max(1, round(side / crop_ratio)) for side in size)
    return height, width


def about_middle(linear: np.ndarray, size: tuple[int, int]) -> Affine:
    """A linear map (2, 2) that leaves the middle of an image where it is."""
    height, width = size
    middle = np.array([width / 2, height / 2])
    return Affine(np.column_stack([linear, middle - linear @ middle]))
