"""What is doubtful of annotations that can be used: more than training and evaluation look at."""

from collections.abc import Iterator

from pycocotools import mask as coco_mask

from evaluation.data.coco_entries import Fault
from evaluation.data.coco_masks import is_usable
from evaluation.data.plain_values import quoted

# In pixels; annotations are rounded.
OUTSIDE = 1.0
# A box further from its mask than this, in pixels and as a share of its side, is another's. COCO's own
# are exact.
APART, APART_SHARE = 5.0, 0.1
# A mask has no more area than its box; COCO's own have up to 1.4 times that of the drawn mask.
LARGEST_SHARE, ROUNDED = 2.0, 10.0

Box = tuple[float, float, float, float]


def annotation_doubts(
    annotation: dict, size: tuple[int, int], with_masks: bool = True
) -> Iterator[Fault]:
    """What is doubtful of an entry of `annotations` without a fault or an oddity.

    Args:
        annotation: the entry.
        size: height and width of its image.
        with_masks: whether its mask is looked at.
    """
    left, top, width, height = annotation['bbox']
    if left < -OUTSIDE or top < -OUTSIDE:
        outside = True
    else:
        outside = left + width > size[1] + OUTSIDE or top + height > size[0] + OUTSIDE
    if outside:
        text = (
            f'has the bbox {quoted(annotation["bbox"])}, which leaves its image of {size[1]}x{size[0]}'
        )
        yield Fault('boxes that leave the image', text)
    if annotation['area'] > largest_area(annotation['bbox']):
        text = f'has the area {annotation["area"]:g} in a box of {width:g}x{height:g}'
        yield Fault('wrong areas', text)
    if not with_masks:
        return
    mask = annotation['segmentation']
    empty = [polygon for polygon in mask if not has_area(polygon)] if type(mask) is list else []
    if empty:
        kind = 'masks of no area' if len(empty) == len(mask) else 'degenerate polygons'
        yield Fault(kind, f'has {len(empty)} of {len(mask)} polygons without an area')
    # The codes of COCO's crowds were made otherwise than their boxes.
    if not empty and not annotation.get('iscrowd'):
        yield from _fit_doubts(annotation, size)


def largest_area(box: list[float]) -> float:
    """The largest area that an object in a box can have."""
    return LARGEST_SHARE * box[2] * box[3] + ROUNDED


def _fit_doubts(annotation: dict, size: tuple[int, int]) -> Iterator[Fault]:
    left, top, width, height = annotation['bbox']
    box = clipped((left, top, left + width, top + height), size)
    bounds = bounds_of(annotation['segmentation'], size)
    if not are_alike(box, bounds):
        corners = ', '.join(f'{value:g}' for value in bounds)
        text = f'has the bbox {quoted(annotation["bbox"])}, but a mask with the corners {corners}'
        yield Fault('boxes that do not fit their masks', text)


def are_alike(box: Box, bounds: Box) -> bool:
    """Whether the corners of a box are near those of its mask."""
    allowed = [max(APART, APART_SHARE * (box[2 + i] - box[i])) for i in (0, 1)] * 2
    return all(abs(b - m) <= most for b, m, most in zip(box, bounds, allowed, strict=True))


def has_area(polygon: list[float]) -> bool:
    """Whether a polygon encloses something."""
    return is_usable(polygon) and area_of(polygon) > 0


def area_of(polygon: list[float]) -> float:
    """Area inside a polygon of coordinates x1, y1, x2, y2, ... (the shoelace formula)."""
    xs, ys = polygon[::2], polygon[1::2]
    nexts = zip(xs[1:] + xs[:1], ys[1:] + ys[:1], strict=True)
    return abs(sum(x * b - a * y for x, y, (a, b) in zip(xs, ys, nexts, strict=True))) / 2


def bounds_of(mask: list[list[float]] | dict, size: tuple[int, int]) -> Box:
    """Left, top, right and bottom of what polygons or a run-length code cover of an image."""
    if type(mask) is dict:
        left, top, width, height = coco_mask.toBbox(as_code(mask, size)).tolist()
        return left, top, left + width, top + height
    xs = [x for polygon in mask if is_usable(polygon) for x in polygon[::2]]
    ys = [y for polygon in mask if is_usable(polygon) for y in polygon[1::2]]
    return clipped((min(xs), min(ys), max(xs), max(ys)), size)


def as_code(mask: list[list[float]] | dict, size: tuple[int, int]) -> dict:
    """A mask as a compressed run-length code."""
    if type(mask) is list:
        return coco_mask.merge(coco_mask.frPyObjects(mask, *size))
    return coco_mask.frPyObjects(mask, *size) if type(mask['counts']) is list else mask


def clipped(corners: Box, size: tuple[int, int]) -> Box:
    """Left, top, right and bottom, moved into an image of `size`, height and width."""
    return tuple(min(max(value, 0), size[1 - i % 2]) for i, value in enumerate(corners))
