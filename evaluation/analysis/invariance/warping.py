"""Affine warping of images, label maps and objects, clipped to the image."""

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from evaluation.analysis.detectors import Objects, Outline, code_of
from evaluation.analysis.invariance.conditions import ROTATION, TRANSLATION, Affine, Condition, shrunk
from evaluation.metrics.class_metrics import IGNORED

Color = tuple[int, int, int]

# Objects with a smaller share of their area in view become crowds, so detections on them are ignored.
LEAST_SHARE = 0.25


def warp_image(image: np.ndarray, condition: Condition, fill: Color) -> np.ndarray:
    """Warp an image (H, W, 3), uint8, keeping its size; empty areas get the color `fill`.

    Translations copy pixels. Rotations and scales are bicubic; downscaling is antialiased.
    """
    size = image.shape[:2]
    if condition.transform not in (TRANSLATION, ROTATION):
        return _scaled(image, condition.strength, fill)
    method = cv2.INTER_NEAREST if condition.transform == TRANSLATION else cv2.INTER_CUBIC
    return _warped(image, condition.affine(size), method, fill)


def warp_labels(labels: np.ndarray, affine: Affine) -> np.ndarray:
    """Warp a label map (H, W), uint8, by nearest neighbor; empty areas get 255."""
    return _warped(labels, affine, cv2.INTER_NEAREST, IGNORED)


def warp_objects(objects: Objects, affine: Affine) -> Objects:
    """Warp objects; objects without any pixel left are dropped.

    A box is mapped directly if it stays axis-aligned and in view. Otherwise, the new box bounds what is
    left of the outline. An object with less than a quarter of its area left becomes a crowd.
    """
    kept, boxes, crowd, outlines = [], [], [], []
    for index, (outline, before) in enumerate(zip(objects.outlines, objects.codes(), strict=True)):
        mapped = _warp_outline(outline, affine)
        after = code_of(mapped, objects.size)
        area = float(coco_mask.area(after))
        if not area:
            continue
        whole = float(coco_mask.area(before)) * affine.area_ratio
        kept.append(index)
        boxes.append(_warp_box(objects.boxes[index], mapped, after, affine, objects.size))
        crowd.append(bool(objects.crowd[index]) or area < LEAST_SHARE * whole)
        outlines.append(after)
    return Objects(
        size=objects.size,
        labels=objects.labels[kept],
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        crowd=np.array(crowd, bool),
        outlines=outlines,
    )


def cut_off(polygon: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Clip a polygon (N, 2) to an image, giving (M, 2) (Sutherland and Hodgman, 1974)."""
    for axis, most in enumerate(size[::-1]):
        for limit, sign in ((0, 1), (most, -1)):
            polygon = _cut_half(polygon, axis, limit, sign)
    return polygon


def _cut_half(polygon: np.ndarray, axis: int, limit: float, sign: int) -> np.ndarray:
    """Clip a polygon by an axis-aligned line."""
    corners = []
    for first, second in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        distances = [sign * (point[axis] - limit) for point in (first, second)]
        if distances[0] >= 0:
            corners.append(first)
        if distances[0] * distances[1] < 0:
            share = distances[0] / (distances[0] - distances[1])
            corners.append(first + share * (second - first))
    return np.array(corners).reshape(-1, 2)


def _warp_outline(outline: Outline, affine: Affine) -> Outline:
    if not isinstance(outline, dict):
        return [affine.points(polygon) for polygon in outline]
    mask = _warped(coco_mask.decode(outline), affine, cv2.INTER_NEAREST, 0)
    return coco_mask.encode(np.asfortranarray(mask))


def _warp_box(
    box: np.ndarray, outline: Outline, code: dict, affine: Affine, size: tuple[int, int]
) -> np.ndarray:
    """Return the warped box (4,)."""
    if affine.keeps_boxes:
        mapped = _bounds(affine.points(box.reshape(2, 2)))
        if _in_view(mapped, size):
            return mapped
    left, top, across, down = coco_mask.toBbox(code)
    of_mask = np.array([left, top, left + across, top + down])
    if isinstance(outline, dict):
        return of_mask
    whole = _bounds(np.concatenate(outline))
    if _in_view(whole, size):
        return whole
    corners = np.concatenate([cut_off(polygon, size) for polygon in outline])
    if not len(corners):
        return of_mask
    # Clipping adds a corner of the image to a polygon that bends around it; the mask corrects that.
    return np.clip(_bounds(corners), of_mask - 1, of_mask + 1)


def _in_view(box: np.ndarray, size: tuple[int, int]) -> bool:
    height, width = size
    return (box[:2] >= 0).all() and box[2] <= width and box[3] <= height


def _bounds(points: np.ndarray) -> np.ndarray:
    """Return left, top, right and bottom of points (N, 2)."""
    return np.concatenate([points.min(0), points.max(0)])


def _warped(picture: np.ndarray, affine: Affine, method: int, fill: int | Color) -> np.ndarray:
    height, width = picture.shape[:2]
    return cv2.warpAffine(
        picture,
        affine.of_middles(),
        (width, height),
        flags=method,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=fill,
    )


def _scaled(image: np.ndarray, crop_ratio: float, fill: Color) -> np.ndarray:
    height, width = image.shape[:2]
    picture = Image.fromarray(image)
    if crop_ratio <= 1:
        across, down = width * (1 - crop_ratio) / 2, height * (1 - crop_ratio) / 2
        crop = (across, down, width - across, height - down)
        return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC, box=crop))
    inner_height, inner_width = shrunk(crop_ratio, (height, width))
    result = np.full_like(image, fill)
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    smaller = picture.resize((inner_width, inner_height), Image.Resampling.BICUBIC)
    result[top : top + inner_height, left : left + inner_width] = np.asarray(smaller)
    return result
