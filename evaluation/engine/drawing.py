"""Draw instances and segmentation maps on images, (H, W, 3) uint8, RGB; hooks that draw them.

Class colors are blended with the gray version of the image, so that hue encodes only the class. The
hooks draw on images as the data set loads them. OpenMMLab's own hooks rotate an image by its EXIF
orientation, but predictions and truth refer to the pixels as stored.
"""

import colorsys
import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from mmdet.engine.hooks import DetVisualizationHook
from mmengine.dataset import BaseDataset
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from mmseg.engine.hooks import SegVisualizationHook

from evaluation.data.image_loading import image_of

Color = tuple[int, int, int]
FONT = cv2.FONT_HERSHEY_SIMPLEX
# Height of the font's capitals in pixels, at OpenCV's scale 1.
FONT_CAPITAL = 21
TEXT_ENLARGEMENT = 4
INK: Color = (32, 32, 32)
# Value of unlabeled pixels in a segmentation map as mmseg loads it.
UNLABELED = 255
INSTANCE_OPACITY = 0.45
SEGMENT_OPACITY = 0.65


def distinct_palette(count: int) -> list[Color]:
    """Return distinct RGB colors: hues a golden ratio apart, in four tones that change every eight."""
    golden = (math.sqrt(5) - 1) / 2
    tones = ((0.85, 0.85), (0.5, 1.0), (0.95, 0.5), (0.4, 0.7))
    hsv = [(i * golden % 1, *tones[i // 8 % len(tones)]) for i in range(count)]
    return [tuple(round(255 * part) for part in colorsys.hsv_to_rgb(*color)) for color in hsv]


def color_classes(classes: Sequence[str], colors: Mapping[str, Color]) -> dict[str, Color]:
    """Return a color for each class: its given color, or one from a distinct palette."""
    names = list(dict.fromkeys(classes))
    others = [name for name in names if name not in colors]
    invented = dict(zip(others, distinct_palette(len(others)), strict=True))
    return {name: invented.get(name) or tuple(colors[name]) for name in names}


def draw_instances(
    image: np.ndarray,
    masks: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray | None,
    classes: Sequence[str],
    palette: Sequence[Color],
) -> np.ndarray:
    """Draw instances on an image: translucent masks with outlines, thin boxes, names and scores.

    If masks overlap, the smaller one is in front. Outlines are in front of all masks. Names are placed
    so that they hide no other name, if possible, and as little of the objects as possible. A name wider
    than the image is cut at its edge: enlarge images smaller than 64 pixels.

    Args:
        image: (H, W, 3) uint8, RGB; not modified.
        masks: (N, H, W) bool.
        boxes: (N, 4), x1, y1, x2, y2 in pixels, the upper ends exclusive.
        labels: (N,) indices into `classes`.
        scores: (N,) in [0, 1]; None for the truth, which has none.
        classes: class names.
        palette: RGB color of each class.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ValueError: shapes do not match.
    """
    shapes = [masks.shape, boxes.shape, labels.shape]
    count = len(labels)
    if shapes != [(count, *image.shape[:2]), (count, 4), (count,)]:
        raise ValueError(f'masks, boxes, labels of shapes {shapes} on an image of {image.shape}')
    if scores is not None and scores.shape != (count,):
        raise ValueError(f'{count} labels, but scores of shape {scores.shape}')
    # A stable sort, so that the same input gives the same picture on every machine.
    order = np.argsort(-masks.sum(axis=(1, 2)), kind='stable')
    colors = [tuple(map(int, palette[label])) for label in labels]
    rectangles = [_pixel_box(box, image.shape) for box in boxes]

    drawn = image.copy()
    backdrop = gray(drawn)
    for i in order:
        drawn[masks[i]] = mix(backdrop[masks[i]], colors[i], INSTANCE_OPACITY)
    for i in order:
        left, top, right, bottom = rectangles[i]
        cv2.rectangle(drawn, (left, top), (right - 1, bottom - 1), colors[i], 1)
    for i in order:
        drawn[_outline(masks[i])] = colors[i]
    texts = [classes[label] for label in labels]
    if scores is not None:
        texts = [f'{text} {score:.2f}' for text, score in zip(texts, scores, strict=True)]
    _paint_tags(drawn, texts, colors, rectangles, masks)
    return drawn


def draw_segmentation(
    image: np.ndarray, segmentation: np.ndarray, palette: Sequence[Color]
) -> np.ndarray:
    """Draw a segmentation map over an image, in translucent colors.

    Args:
        image: (H, W, 3) uint8, RGB; not modified.
        segmentation: (H, W) class indices; 255 is unlabeled and leaves the image visible.
        palette: RGB color of each class.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ValueError: the map and the image have different sizes, or a class has no color.
    """
    if segmentation.shape != image.shape[:2]:
        raise ValueError(f'segmentation of shape {segmentation.shape} on an image of {image.shape}')
    labeled = segmentation != UNLABELED
    used = segmentation[labeled]
    if used.size and not 0 <= used.min() <= used.max() < len(palette):
        raise ValueError(f'classes {used.min()} to {used.max()}, but {len(palette)} colors')
    drawn = image.copy()
    colors = np.asarray(palette, float)[used]
    drawn[labeled] = mix(gray(drawn)[labeled], colors, SEGMENT_OPACITY)
    return drawn


def _pixel_box(box: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the pixels that a box touches, at least one, inside an image of `shape`."""
    height, width = shape[:2]
    left, top = np.clip(np.floor(box[:2]), 0, (width - 1, height - 1)).astype(int)
    right, bottom = np.clip(np.ceil(box[2:]), (left + 1, top + 1), (width, height)).astype(int)
    return int(left), int(top), int(right), int(bottom)


def _outline(mask: np.ndarray) -> np.ndarray:
    """Return the border pixels of a mask, (H, W) bool; the image's edge does not count as a border."""
    thickness = max(1, round(min(mask.shape) / 150))
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inside = cv2.erode(mask.astype(np.uint8), cross, iterations=thickness)
    return mask & (inside == 0)


def _paint_tags(
    drawn: np.ndarray,
    texts: Sequence[str],
    colors: Sequence[Color],
    rectangles: Sequence[tuple[int, int, int, int]],
    masks: np.ndarray,
) -> None:
    """Draw a text tag at each rectangle, in place."""
    height, width = drawn.shape[:2]
    capital = int(np.clip(min(height, width) / 32, 6, 10))
    objects = masks.any(axis=0)
    tags = np.zeros((height, width), bool)
    for text, color, rectangle in zip(texts, colors, rectangles, strict=True):
        cover = np.pad(text_cover(text, capital), ((0, 0), (2, 2)))[:height, :width]
        h, w = cover.shape
        left, top = _tag_place(rectangle, h, w, tags, objects)
        tag = np.full((h, w, 3), color, np.uint8)
        ink_text(tag, cover, 0, 0, contrast(color))
        paste(drawn, tag, left, top)
        tags[top : top + h, left : left + w] = True


def _tag_place(
    rectangle: tuple[int, int, int, int], h: int, w: int, tags: np.ndarray, objects: np.ndarray
) -> tuple[int, int]:
    """Return left and top of the position at a rectangle where a tag hides the least.

    Args:
        rectangle: left, top, right, bottom; the latter two exclusive.
        h: height of the tag.
        w: width of the tag.
        tags: (H, W) bool, pixels that tags already cover.
        objects: (H, W) bool, pixels that objects cover.
    """
    left, top, right, bottom = rectangle
    rows = (top - h, bottom, top, bottom - h)
    candidates = [(x, y) for y in rows for x in (left, right - w, (left + right - w) // 2)]
    height, width = tags.shape

    def hidden(place: tuple[int, int]) -> tuple[int, int]:
        under = np.s_[place[1] : place[1] + h, place[0] : place[0] + w]
        return int(tags[under].sum()), int(objects[under].sum())

    inside = [(min(max(x, 0), width - w), min(max(y, 0), height - h)) for x, y in candidates]
    return min(inside, key=hidden)


def enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    """Enlarge an image by repeating every pixel in both directions."""
    return np.ascontiguousarray(image.repeat(factor, axis=0).repeat(factor, axis=1))


def gray(image: np.ndarray) -> np.ndarray:
    """Convert (H, W, 3) RGB to gray, with three equal channels."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def mix(under: np.ndarray, over: np.ndarray | Color, opacity: float | np.ndarray) -> np.ndarray:
    """Blend a color over another with the given opacity."""
    mixed = (1 - opacity) * under + opacity * np.asarray(over)
    return np.round(mixed).astype(np.uint8)


def paste(sheet: np.ndarray, image: np.ndarray, left: int, top: int) -> None:
    """Paste an image onto another, in place."""
    sheet[top : top + image.shape[0], left : left + image.shape[1]] = image


def text_cover(text: str, capital: int) -> np.ndarray:
    """Return the fraction of each pixel that a line of text covers, (H, W) in [0, 1].

    Args:
        text: printable ASCII; the font replaces other characters by question marks.
        capital: height of capitals in pixels; a line is 1.7 times as high.
    """
    size = TEXT_ENLARGEMENT * capital
    stroke = max(1, round(0.125 * size))
    scale = (size - stroke) / FONT_CAPITAL
    (width, _), _ = cv2.getTextSize(text, FONT, scale, stroke)
    canvas_width = math.ceil((width + stroke) / TEXT_ENLARGEMENT) * TEXT_ENLARGEMENT
    canvas = np.zeros((TEXT_ENLARGEMENT * round(1.7 * capital), canvas_width), np.uint8)
    baseline = TEXT_ENLARGEMENT * round(1.25 * capital) - stroke // 2
    cv2.putText(canvas, text, (stroke // 2, baseline), FONT, scale, 255, stroke, cv2.LINE_AA)
    small = (canvas.shape[1] // TEXT_ENLARGEMENT, canvas.shape[0] // TEXT_ENLARGEMENT)
    return cv2.resize(canvas, small, interpolation=cv2.INTER_AREA) / 255


def ink_text(sheet: np.ndarray, cover: np.ndarray, left: int, top: int, ink: Color = INK) -> None:
    """Draw text, (H, W) from `text_cover`, onto `sheet` in place."""
    place = sheet[top : top + cover.shape[0], left : left + cover.shape[1]]
    place[:] = mix(place, ink, cover[..., None])


def contrast(color: Color) -> Color:
    """Return black or white, whichever is easier to read on a color (ITU-R BT.601 luma)."""
    red, green, blue = color
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


class LoadedImages:
    """Visualizer that draws on images loaded by a data set's pipeline.

    Args:
        visualizer: the visualizer that draws.
        dataset: data set with the pipeline.
    """

    def __init__(self, visualizer: Visualizer, dataset: BaseDataset) -> None:
        self._visualizer = visualizer
        self._dataset = dataset

    def add_datasample(self, name: str, image: np.ndarray, data_sample: Any, **options: Any) -> None:
        """Draw a sample as `Visualizer.add_datasample` does, on the image at its `img_path`."""
        loaded = image_of(self._dataset, data_sample.img_path)
        self._visualizer.add_datasample(name, loaded, data_sample, **options)


class DrawnAsLoaded:
    """Mixin for visualization hooks: draw on images as they were loaded for the model."""

    def before_val(self, runner: Runner) -> None:
        """Draw on images of the validation set."""
        self._visualizer = LoadedImages(runner.visualizer, runner.val_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        """Draw on images of the test set."""
        self._visualizer = LoadedImages(runner.visualizer, runner.test_dataloader.dataset)


@HOOKS.register_module()
class DrawInstances(DrawnAsLoaded, DetVisualizationHook):
    """`DetVisualizationHook` that draws on images as they were loaded for the model."""


@HOOKS.register_module()
class DrawSegmentations(DrawnAsLoaded, SegVisualizationHook):
    """`SegVisualizationHook` that draws on images as they were loaded for the model."""
