"""Pixels of pictures, (H, W, 3) uint8, RGB."""

import cv2
import numpy as np

Colour = tuple[int, int, int]


def enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    """Repeat every pixel, down and across."""
    return np.ascontiguousarray(image.repeat(factor, axis=0).repeat(factor, axis=1))


def grey(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W, 3), the same grey in all channels."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def mix(under: np.ndarray, over: np.ndarray | Colour, opacity: float | np.ndarray) -> np.ndarray:
    """One colour over another, which shows through."""
    mixed = (1 - opacity) * under + opacity * np.asarray(over)
    return np.round(mixed).astype(np.uint8)


def paste(sheet: np.ndarray, image: np.ndarray, left: int, top: int) -> None:
    """Put a picture onto another, in place."""
    sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
