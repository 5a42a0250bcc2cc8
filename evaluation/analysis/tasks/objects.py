"""Objects of an image: those that are there, and those that a detector finds."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from pycocotools import mask as coco_mask

# Polygons, each (K, 2) of x and y in pixels, or a run-length code.
Outline = Sequence[np.ndarray] | dict


@dataclass(frozen=True)
class Objects:
    """What is there.

    Attributes:
        size: height and width of the image, in pixels.
        labels: (N,), classes from 0.
        boxes: (N, 4), left, top, right, bottom in pixels.
        crowd: (N,), bool, whether it stands for many, so that what is found there does not count.
        outlines: of each.
    """

    size: tuple[int, int]
    labels: np.ndarray
    boxes: np.ndarray
    crowd: np.ndarray
    outlines: Sequence[Outline]

    def codes(self) -> list[dict]:
        """Masks as run-length codes."""
        return [code_of(outline, self.size) for outline in self.outlines]


@dataclass(frozen=True)
class Detections:
    """What is found.

    Attributes:
        size: height and width of the image, in pixels.
        labels: (N,), classes from 0.
        scores: (N,), float32.
        boxes: (N, 4), left, top, right, bottom in pixels.
        masks: run-length codes; None of a detector without masks.
    """

    size: tuple[int, int]
    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    masks: Sequence[dict] | None


def code_of(outline: Outline, size: tuple[int, int]) -> dict:
    """The run-length code of an outline in an image of a size, as COCO rasterises polygons."""
    if isinstance(outline, dict):
        return outline
    height, width = size
    polygons = [polygon.ravel().tolist() for polygon in outline]
    return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))


def compressed(segmentation: dict) -> dict:
    """A run-length code of an annotation file, whose runs may stand there as numbers."""
    if isinstance(segmentation['counts'], list):
        return coco_mask.frPyObjects(segmentation, *segmentation['size'])
    return segmentation


def resized_code(code: dict, size: tuple[int, int]) -> dict:
    """A run-length code in an image of another size, by nearest neighbours."""
    height, width = size
    if code['size'] == [height, width]:
        return code
    mask = coco_mask.decode(code)
    resized = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return coco_mask.encode(np.asfortranarray(resized))


def rectangle(box: np.ndarray) -> np.ndarray:
    """A box (4,) as a polygon (4, 2)."""
    left, top, right, bottom = box
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float64)
