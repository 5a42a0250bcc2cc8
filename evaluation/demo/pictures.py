"""Pictures of what models predict, beside the truth.

Where a class colours a pixel, the colour lies over the grey of the picture, so that the hue tells the
class and nothing else. Text is drawn with OpenCV's strokes, enlarged and averaged down, which keeps
it even at ten pixels.
"""

import colorsys
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.device import get_device
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS, DefaultScope

from backbones.checkpoint import read_checkpoint, weights_of
from evaluation.data.checks import check_data
from evaluation.demo.scenes import PALETTE, SEGMENT_CLASSES
from evaluation.errors import UserError
from evaluation.experiment import backbone_errors_reported, read_config
from evaluation.files import write_bytes

Colour = tuple[int, int, int]
Run = tuple[str | Path, str | Path]

# In a segmentation map as mmseg loads it.
UNLABELLED = 255
SCORE_THRESHOLD = 0.3
INSTANCE_OPACITY = 0.45
SEGMENT_OPACITY = 0.65
SCENE_COLOURS: Mapping[str, Colour] = dict(zip(SEGMENT_CLASSES, PALETTE, strict=True))
# Smaller pictures are enlarged to this before anything is drawn on them, pixels.
PANEL_SIDE = 256
ROWS = ('image', 'instances: truth', 'instances: Mask R-CNN', 'classes: truth', 'classes: UperNet')

FONT = cv2.FONT_HERSHEY_SIMPLEX
# Height of the font's capitals at OpenCV's scale 1, pixels.
FONT_CAPITAL = 21
TEXT_ENLARGEMENT = 4

PAPER: Colour = (255, 255, 255)
INK: Colour = (32, 32, 32)
TITLE_CAPITAL, HEADING_CAPITAL, LEGEND_CAPITAL = 12, 9, 8
MARGIN, GAP = 16, 6


def distinct_palette(count: int) -> list[Colour]:
    """Return RGB colours that differ: hues a golden section apart, in four tones by turns of eight."""
    golden = (math.sqrt(5) - 1) / 2
    tones = ((0.85, 0.85), (0.5, 1.0), (0.95, 0.5), (0.4, 0.7))
    hsv = [(i * golden % 1, *tones[i // 8 % len(tones)]) for i in range(count)]
    return [tuple(round(255 * part) for part in colorsys.hsv_to_rgb(*colour)) for colour in hsv]


def draw_instances(
    image: np.ndarray,
    masks: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray | None,
    classes: Sequence[str],
    palette: Sequence[Colour],
) -> np.ndarray:
    """Draw instances on a picture: translucent masks with outlines, thin boxes, names and scores.

    Where masks overlap, the smaller lies in front; outlines lie in front of all masks, and names go
    where they hide no other name, if there is such a place, and as little as may be of the objects.
    A name longer than the picture is wide is cut at its edge: enlarge pictures under 64 pixels.

    Args:
        image: (H, W, 3) uint8, RGB; stays as it is.
        masks: (N, H, W) bool.
        boxes: (N, 4), x1, y1, x2, y2 in pixels, the upper ends exclusive.
        labels: (N,) indices into `classes`.
        scores: (N,) in [0, 1]; None for the truth, which has none.
        classes: names.
        palette: RGB colour of each class.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ValueError: shapes do not fit together.
    """
    shapes = [masks.shape, boxes.shape, labels.shape]
    count = len(labels)
    if shapes != [(count, *image.shape[:2]), (count, 4), (count,)]:
        raise ValueError(f'masks, boxes, labels of shapes {shapes} on an image of {image.shape}')
    if scores is not None and scores.shape != (count,):
        raise ValueError(f'{count} labels, but scores of shape {scores.shape}')
    # Stable, so that equal pictures come from equal input on every machine.
    order = np.argsort(-masks.sum(axis=(1, 2)), kind='stable')
    colours = [tuple(map(int, palette[label])) for label in labels]
    rectangles = [_pixel_box(box, image.shape) for box in boxes]

    drawn = image.copy()
    grey = _grey(drawn)
    for i in order:
        drawn[masks[i]] = _mix(grey[masks[i]], colours[i], INSTANCE_OPACITY)
    for i in order:
        left, top, right, bottom = rectangles[i]
        cv2.rectangle(drawn, (left, top), (right - 1, bottom - 1), colours[i], 1)
    for i in order:
        drawn[_outline(masks[i])] = colours[i]
    texts = [classes[label] for label in labels]
    if scores is not None:
        texts = [f'{text} {score:.2f}' for text, score in zip(texts, scores, strict=True)]
    _paint_tags(drawn, texts, colours, rectangles, masks)
    return drawn


def draw_segmentation(
    image: np.ndarray, segmentation: np.ndarray, palette: Sequence[Colour]
) -> np.ndarray:
    """Draw a segmentation map over a picture, in translucent colours.

    Args:
        image: (H, W, 3) uint8, RGB; stays as it is.
        segmentation: (H, W) class indices; 255 is unlabelled and leaves the picture visible.
        palette: RGB colour of each class.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ValueError: the map has another size than the picture, or a class without a colour.
    """
    if segmentation.shape != image.shape[:2]:
        raise ValueError(f'segmentation of shape {segmentation.shape} on an image of {image.shape}')
    labelled = segmentation != UNLABELLED
    used = segmentation[labelled]
    if used.size and not 0 <= used.min() <= used.max() < len(palette):
        raise ValueError(f'classes {used.min()} to {used.max()}, but {len(palette)} colours')
    drawn = image.copy()
    colours = np.asarray(palette, float)[used]
    drawn[labelled] = _mix(_grey(drawn)[labelled], colours, SEGMENT_OPACITY)
    return drawn


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[np.ndarray]]],
    column_titles: Sequence[str],
    title: str,
    scale: int = 2,
    legend: Sequence[tuple[str, Colour]] = (),
) -> np.ndarray:
    """Lay pictures out in a grid with a title, a name for each row and column, and a legend.

    Text has the same size whatever `scale` is, and everything grows where it would not fit.

    Args:
        rows: name and pictures of each row, (H, W, 3) uint8, RGB, of any sizes.
        column_titles: one for each picture of a row.
        title: of the sheet.
        scale: how many times pictures are enlarged, pixel by pixel.
        legend: names and their RGB colours, at the foot.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ValueError: there is no picture, or a row has another number of pictures than there are titles.
    """
    counts = {len(images) for _, images in rows}
    if counts != {len(column_titles)} or not column_titles:
        raise ValueError(f'rows of {sorted(counts)} pictures under {len(column_titles)} titles')
    grid = [[_enlarge(image, scale) for image in images] for _, images in rows]
    heading, names = _text_cover(title, TITLE_CAPITAL), [_row_name(name) for name, _ in rows]
    headings = [_text_cover(column_title, HEADING_CAPITAL) for column_title in column_titles]

    heights = [
        max([name.shape[0], *(image.shape[0] for image in images)])
        for name, images in zip(names, grid, strict=True)
    ]
    widths = [
        max([cover.shape[1], *(image.shape[1] for image in column)])
        for cover, *column in zip(headings, *grid, strict=True)
    ]
    left = MARGIN + max(name.shape[1] for name in names) + 2 * GAP
    top = MARGIN + heading.shape[0] + 2 * GAP + headings[0].shape[0] + GAP
    lefts, tops = _spread(left, widths), _spread(top, heights)
    inner = max(lefts[-1] + widths[-1] - MARGIN, heading.shape[1])
    foot = _legend(legend, inner)
    bottom = tops[-1] + heights[-1]

    size = (bottom + foot.shape[0] + MARGIN, max(inner, foot.shape[1]) + 2 * MARGIN, 3)
    sheet = np.full(size, PAPER, np.uint8)
    _ink(sheet, heading, MARGIN, MARGIN)
    for x, w, cover in zip(lefts, widths, headings, strict=True):
        _ink(sheet, cover, x + (w - cover.shape[1]) // 2, top - GAP - cover.shape[0])
    for y, h, name, images in zip(tops, heights, names, grid, strict=True):
        _ink(sheet, name, left - 2 * GAP - name.shape[1], y + (h - name.shape[0]) // 2)
        for x, w, image in zip(lefts, widths, images, strict=True):
            _paste(sheet, image, x + (w - image.shape[1]) // 2, y + (h - image.shape[0]) // 2)
    _paste(sheet, foot, MARGIN, bottom)
    return sheet


def predictions_sheet(
    detector_run: Run,
    segmentor_run: Run,
    count: int = 4,
    colours: Mapping[str, Colour] = SCENE_COLOURS,
) -> np.ndarray:
    """Draw what a Mask R-CNN and an UperNet make of the same validation pictures.

    The pictures are the first that hold an object. Instances with a score of 0.3 or more are drawn.
    Crowds are left out of the truth, since nothing is expected of a model there.

    Args:
        detector_run: config file and checkpoint.
        segmentor_run: likewise; its validation pictures are the detector's, in the same order.
        count: number of pictures.
        colours: RGB colour by name of class, the same in both tasks; classes not in it get others.

    Returns:
        (H, W, 3) uint8, RGB: the pictures as columns; as rows the picture, true and predicted
        instances, true and predicted classes.

    Raises:
        UserError: a file is missing, a checkpoint does not fit its config, there are fewer than
            `count` pictures with objects, or the two data sets show different pictures.
    """
    detector, segmentor = _load(detector_run, 'mmdet'), _load(segmentor_run, 'mmseg')
    if len(detector.dataset) != len(segmentor.dataset):
        raise UserError(
            f'{detector_run[0]} validates on {len(detector.dataset)} pictures, {segmentor_run[0]} '
            f'on {len(segmentor.dataset)}: both data sets must be written from the same scenes'
        )
    indices = _first_with_objects(detector.dataset, count)
    by_name = _colour_classes([*segmentor.classes, *detector.classes], colours)
    columns = [_column(detector, segmentor, index, by_name) for index in indices]
    return contact_sheet(
        [(name, panels) for name, *panels in zip(ROWS, *columns, strict=True)],
        [f'validation image {index + 1}' for index in indices],
        _sheet_title(detector_run[0], segmentor_run[0]),
        scale=1,
        legend=list(by_name.items()),
    )


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write a picture, (H, W, 3) uint8, RGB, as PNG, so that a reader never sees half of it."""
    encoded = cv2.imencode('.png', image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    write_bytes(path, encoded.tobytes())


# Models and their data


@dataclass(frozen=True)
class _Trained:
    """A model with its weights and the data that it is validated on."""

    scope: str
    model: BaseModel
    dataset: BaseDataset

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.dataset.metainfo['classes'])

    def predict(self, index: int) -> Any:
        """The data sample of one picture, with truth and prediction, on the CPU."""
        # mmdet and mmseg look up some parts by name only when they run.
        with DefaultScope.overwrite_default_scope(self.scope), torch.no_grad():
            return self.model.test_step(pseudo_collate([self.dataset[index]]))[0].cpu()


def _load(run: Run, scope: str) -> _Trained:
    config_file, checkpoint = map(str, run)
    config = read_config(config_file)
    if config.get('default_scope') != scope:
        raise UserError(f'{config_file} is no config of {scope}')
    check_data(config, ['val_dataloader'])
    with DefaultScope.overwrite_default_scope(scope), backbone_errors_reported():
        model = MODELS.build(config.model)
        dataset = DATASETS.build(config.val_dataloader.dataset)
        weights = weights_of(read_checkpoint(checkpoint), checkpoint)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = ' '.join(str(error).split())
        raise UserError(f'{checkpoint} does not fit {config_file}: {reason:.200}') from error
    return _Trained(scope, model.to(get_device()).eval(), dataset)


def _first_with_objects(dataset: BaseDataset, count: int) -> list[int]:
    if count < 1:
        raise UserError(f'pictures: their number must be 1 or more, got {count}')
    found: list[int] = []
    for index in range(len(dataset)):
        if any(not instance['ignore_flag'] for instance in dataset.get_data_info(index)['instances']):
            found.append(index)
        if len(found) == count:
            return found
    raise UserError(f'only {len(found)} validation pictures hold objects, {count} were asked for')


def _colour_classes(classes: Sequence[str], colours: Mapping[str, Colour]) -> dict[str, Colour]:
    names = list(dict.fromkeys(classes))
    others = [name for name in names if name not in colours]
    invented = dict(zip(others, distinct_palette(len(others)), strict=True))
    return {name: invented.get(name) or tuple(colours[name]) for name in names}


def _column(
    detector: _Trained, segmentor: _Trained, index: int, colours: Mapping[str, Colour]
) -> list[np.ndarray]:
    """Return one picture, then its instances and its classes, each true and predicted."""
    detected, segmented = detector.predict(index), segmentor.predict(index)
    image = _read_rgb(detected.img_path)
    if not np.array_equal(image, _read_rgb(segmented.img_path)):
        raise UserError(
            f'{detected.img_path} and {segmented.img_path} show different pictures: '
            'both data sets must be written from the same scenes'
        )
    factor = max(1, PANEL_SIDE // max(image.shape[:2]))
    image = _enlarge(image, factor)
    return [
        image,
        *_instance_panels(image, factor, detected, detector.classes, colours),
        *_segment_panels(image, factor, segmented, segmentor.classes, colours),
    ]


def _instance_panels(
    image: np.ndarray,
    factor: int,
    sample: Any,
    classes: Sequence[str],
    colours: Mapping[str, Colour],
) -> list[np.ndarray]:
    """Draw the true and the predicted instances on a picture that was enlarged by `factor`."""
    truth, found = sample.gt_instances, sample.pred_instances
    found = found[found.scores >= SCORE_THRESHOLD]
    palette = [colours[name] for name in classes]
    true_masks = truth.masks.to_ndarray().astype(bool)
    return [
        draw_instances(
            image,
            masks.repeat(factor, axis=1).repeat(factor, axis=2),
            boxes.numpy() * factor,
            labels.numpy(),
            scores,
            classes,
            palette,
        )
        for masks, boxes, labels, scores in (
            (true_masks, truth.bboxes, truth.labels, None),
            (found.masks.numpy(), found.bboxes, found.labels, found.scores.numpy()),
        )
    ]


def _segment_panels(
    image: np.ndarray,
    factor: int,
    sample: Any,
    classes: Sequence[str],
    colours: Mapping[str, Colour],
) -> list[np.ndarray]:
    """Draw the true and the predicted classes over a picture that was enlarged by `factor`."""
    palette = [colours[name] for name in classes]
    maps = (sample.gt_sem_seg.data[0], sample.pred_sem_seg.data[0])
    return [draw_segmentation(image, _enlarge(m.numpy(), factor), palette) for m in maps]


def _sheet_title(detector_config: str | Path, segmentor_config: str | Path) -> str:
    backbones = dict.fromkeys(
        (
            Path(detector_config).stem.removeprefix('mask_rcnn_'),
            Path(segmentor_config).stem.removeprefix('upernet_'),
        )
    )
    names = ' and '.join(backbones)
    return f'{names}: what Mask R-CNN (scores from {SCORE_THRESHOLD} on) and UperNet predict'


def _read_rgb(path: str) -> np.ndarray:
    return np.ascontiguousarray(cv2.imread(path)[..., ::-1])


# Pixels


def _enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    return np.ascontiguousarray(image.repeat(factor, axis=0).repeat(factor, axis=1))


def _grey(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W, 3), the same grey in all channels."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _mix(under: np.ndarray, over: np.ndarray | Colour, opacity: float | np.ndarray) -> np.ndarray:
    mixed = (1 - opacity) * under + opacity * np.asarray(over)
    return np.round(mixed).astype(np.uint8)


def _pixel_box(box: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the pixels that a box touches, at least one, inside an image of `shape`."""
    height, width = shape[:2]
    left, top = np.clip(np.floor(box[:2]), 0, (width - 1, height - 1)).astype(int)
    right, bottom = np.clip(np.ceil(box[2:]), (left + 1, top + 1), (width, height)).astype(int)
    return int(left), int(top), int(right), int(bottom)


def _outline(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of a mask, (H, W) bool, along its border; the image's edge is no border."""
    thickness = max(1, round(min(mask.shape) / 150))
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inside = cv2.erode(mask.astype(np.uint8), cross, iterations=thickness)
    return mask & (inside == 0)


def _spread(start: int, sizes: Sequence[int]) -> list[int]:
    """Return where things of these sizes begin, one after the other with gaps between."""
    return list(itertools.accumulate(sizes[:-1], lambda at, size: at + size + GAP, initial=start))


def _paste(sheet: np.ndarray, image: np.ndarray, left: int, top: int) -> None:
    sheet[top : top + image.shape[0], left : left + image.shape[1]] = image


# Text


def _text_cover(text: str, capital: int) -> np.ndarray:
    """Return how much of each pixel a line of text covers, (H, W) in [0, 1].

    Args:
        text: printable ASCII; what the font lacks comes out as question marks.
        capital: height of capitals, pixels. Every line is 1.7 times as high.
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


def _ink(sheet: np.ndarray, cover: np.ndarray, left: int, top: int, ink: Colour = INK) -> None:
    """Draw text, (H, W) as `_text_cover` gives it, onto `sheet` in place."""
    place = sheet[top : top + cover.shape[0], left : left + cover.shape[1]]
    place[:] = _mix(place, ink, cover[..., None])


def _row_name(name: str) -> np.ndarray:
    """Return the text of a row's name, each word that ends with a colon ending its line."""
    lines = [_text_cover(line, HEADING_CAPITAL) for line in name.replace(': ', ':\n').split('\n')]
    width = max(line.shape[1] for line in lines)
    return np.vstack([np.pad(line, ((0, 0), (width - line.shape[1], 0))) for line in lines])


def _legend(entries: Sequence[tuple[str, Colour]], width: int) -> np.ndarray:
    """Return swatches with names, in as many lines as `width` needs; no pixel if there are none.

    It is wider than `width` where a single name is.
    """
    if not entries:
        return np.zeros((0, 0, 3), np.uint8)
    blocks = []
    for name, colour in entries:
        cover = _text_cover(name, LEGEND_CAPITAL)
        side = cover.shape[0]
        block = np.full((side, side + GAP + cover.shape[1], 3), PAPER, np.uint8)
        block[2:-2, 2:-2][:, : side - 4] = colour
        _ink(block, cover, side + GAP, 0)
        blocks.append(block)
    places, x, y = [], 0, 2 * GAP
    for block in blocks:
        if x and x + block.shape[1] > width:
            x, y = 0, y + block.shape[0] + GAP
        places.append((x, y))
        x += block.shape[1] + 3 * GAP
    wide = max(x + block.shape[1] for block, (x, _) in zip(blocks, places, strict=True))
    foot = np.full((y + blocks[-1].shape[0], wide, 3), PAPER, np.uint8)
    for block, (x, y) in zip(blocks, places, strict=True):
        _paste(foot, block, x, y)
    return foot


def _paint_tags(
    drawn: np.ndarray,
    texts: Sequence[str],
    colours: Sequence[Colour],
    rectangles: Sequence[tuple[int, int, int, int]],
    masks: np.ndarray,
) -> None:
    """Put a tag with its text at each rectangle, in place."""
    height, width = drawn.shape[:2]
    capital = int(np.clip(min(height, width) / 32, 6, 10))
    objects = masks.any(axis=0)
    tags = np.zeros((height, width), bool)
    for text, colour, rectangle in zip(texts, colours, rectangles, strict=True):
        cover = np.pad(_text_cover(text, capital), ((0, 0), (2, 2)))[:height, :width]
        h, w = cover.shape
        left, top = _tag_place(rectangle, h, w, tags, objects)
        tag = np.full((h, w, 3), colour, np.uint8)
        _ink(tag, cover, 0, 0, _contrast(colour))
        _paste(drawn, tag, left, top)
        tags[top : top + h, left : left + w] = True


def _tag_place(
    rectangle: tuple[int, int, int, int], h: int, w: int, tags: np.ndarray, objects: np.ndarray
) -> tuple[int, int]:
    """Return left and top of the place at a rectangle where a tag hides the least.

    Args:
        rectangle: left, top, right, bottom; the latter two exclusive.
        h: height of the tag.
        w: its width.
        tags: (H, W) bool, where tags lie already.
        objects: (H, W) bool, where objects lie.
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


def _contrast(colour: Colour) -> Colour:
    """Black or white, whichever is easier to read on a colour (ITU-R BT.601 luma)."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
