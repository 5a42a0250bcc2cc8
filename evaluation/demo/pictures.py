"""Pictures of the predictions of a detector and a segmentor beside the ground truth."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.dataset import BaseDataset

from evaluation.config.recipe import contestant_name
from evaluation.demo.scenes import PALETTE, SEGMENT_CLASSES
from evaluation.engine.drawing import (
    Color,
    color_classes,
    draw_instances,
    draw_segmentation,
    enlarge,
    ink_text,
    paste,
    text_cover,
)
from evaluation.engine.experiment import read_config
from evaluation.engine.predictor import SCORE_THRESHOLD, Trained, load_trained
from evaluation.utils.errors import UserError
from evaluation.utils.files import write_bytes

Run = tuple[str | Path, str | Path]

SCENE_COLORS: Mapping[str, Color] = dict(zip(SEGMENT_CLASSES, PALETTE, strict=True))
# Smaller pictures are enlarged to this side before anything is drawn on them, in pixels.
PANEL_SIDE = 256
ROWS = ('image', 'instances: truth', 'instances: Mask R-CNN', 'classes: truth', 'classes: UperNet')

PAPER: Color = (255, 255, 255)
TITLE_CAPITAL, HEADING_CAPITAL, LEGEND_CAPITAL = 12, 9, 8
MARGIN, GAP = 16, 6


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[np.ndarray]]],
    column_titles: Sequence[str],
    title: str,
    scale: int = 2,
    legend: Sequence[tuple[str, Color]] = (),
) -> np.ndarray:
    """Arrange pictures in a grid with a title, a name for each row and column, and a legend.

    The size of the text does not depend on `scale`. The sheet grows to fit all text.

    Args:
        rows: name and pictures of each row, (H, W, 3) uint8, RGB, of any sizes.
        column_titles: one title per column.
        title: title of the sheet.
        scale: integer factor by which pictures are enlarged.
        legend: names and RGB colors of the legend, at the bottom.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ValueError: there is no picture, or the number of pictures in a row is not that of the titles.
    """
    counts = {len(images) for _, images in rows}
    if counts != {len(column_titles)} or not column_titles:
        raise ValueError(f'rows of {sorted(counts)} pictures under {len(column_titles)} titles')
    grid = [[enlarge(image, scale) for image in images] for _, images in rows]
    heading, names = text_cover(title, TITLE_CAPITAL), [_row_name(name) for name, _ in rows]
    headings = [text_cover(column_title, HEADING_CAPITAL) for column_title in column_titles]

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
    ink_text(sheet, heading, MARGIN, MARGIN)
    for x, w, cover in zip(lefts, widths, headings, strict=True):
        ink_text(sheet, cover, x + (w - cover.shape[1]) // 2, top - GAP - cover.shape[0])
    for y, h, name, images in zip(tops, heights, names, grid, strict=True):
        ink_text(sheet, name, left - 2 * GAP - name.shape[1], y + (h - name.shape[0]) // 2)
        for x, w, image in zip(lefts, widths, images, strict=True):
            paste(sheet, image, x + (w - image.shape[1]) // 2, y + (h - image.shape[0]) // 2)
    paste(sheet, foot, MARGIN, bottom)
    return sheet


def predictions_sheet(
    detector_run: Run,
    segmentor_run: Run,
    count: int = 4,
    colors: Mapping[str, Color] = SCENE_COLORS,
) -> np.ndarray:
    """Draw the predictions of a Mask R-CNN and an UperNet on the same validation pictures.

    The pictures are the first ones with an object. Instances with a score of 0.3 or more are drawn.
    Crowds are not drawn in the ground truth, since a model need not detect them.

    Args:
        detector_run: config file and checkpoint of the detector.
        segmentor_run: config file and checkpoint of the segmentor, which must have the same validation
            pictures in the same order.
        count: number of pictures.
        colors: RGB color by class name, for both tasks; other classes get new colors.

    Returns:
        (H, W, 3) uint8, RGB. Each column is a picture; the rows show the picture, true and predicted
        instances, true and predicted classes.

    Raises:
        UserError: a file is missing, a checkpoint does not fit its config, there are fewer than
            `count` pictures with objects, or the two data sets have different pictures.
    """
    detector, segmentor = _load(detector_run, 'mmdet'), _load(segmentor_run, 'mmseg')
    if len(detector.dataset) != len(segmentor.dataset):
        raise UserError(
            f'{detector_run[0]} validates on {len(detector.dataset)} pictures, {segmentor_run[0]} '
            f'on {len(segmentor.dataset)}; write both data sets from the same scenes'
        )
    indices = _first_with_objects(detector.dataset, count)
    by_name = color_classes([*segmentor.classes, *detector.classes], colors)
    columns = [_column(detector, segmentor, index, by_name) for index in indices]
    return contact_sheet(
        [(name, panels) for name, *panels in zip(ROWS, *columns, strict=True)],
        [f'validation image {index + 1}' for index in indices],
        _sheet_title(detector_run[0], segmentor_run[0]),
        scale=1,
        legend=list(by_name.items()),
    )


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write a picture, (H, W, 3) uint8, RGB, as PNG, atomically."""
    encoded = cv2.imencode('.png', image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    write_bytes(path, encoded.tobytes())


def _load(run: Run, scope: str) -> Trained:
    config_file, checkpoint = map(str, run)
    config = read_config(config_file)
    if config.get('default_scope') != scope:
        raise UserError(f'{config_file} is not a config of {scope}')
    return load_trained(config, config_file, checkpoint, 'val_dataloader')


def _first_with_objects(dataset: BaseDataset, count: int) -> list[int]:
    if count < 1:
        raise UserError(f'the number of pictures is {count}; give 1 or more')
    found: list[int] = []
    for index in range(len(dataset)):
        if any(not instance['ignore_flag'] for instance in dataset.get_data_info(index)['instances']):
            found.append(index)
        if len(found) == count:
            return found
    raise UserError(f'only {len(found)} validation pictures have objects, but {count} were requested')


def _column(
    detector: Trained, segmentor: Trained, index: int, colors: Mapping[str, Color]
) -> list[np.ndarray]:
    """Return a picture, and its true and predicted instances and classes, as pictures."""
    detected, segmented = detector.predict(index), segmentor.predict(index)
    image = detector.image(index)
    if not np.array_equal(image, segmentor.image(index)):
        raise UserError(
            f'{detected.img_path} and {segmented.img_path} are different pictures; '
            'write both data sets from the same scenes'
        )
    factor = max(1, PANEL_SIDE // max(image.shape[:2]))
    image = enlarge(image, factor)
    return [
        image,
        *_instance_panels(image, factor, detected, detector.classes, colors),
        *_segment_panels(image, factor, segmented, segmentor.classes, colors),
    ]


def _instance_panels(
    image: np.ndarray,
    factor: int,
    sample: Any,
    classes: Sequence[str],
    colors: Mapping[str, Color],
) -> list[np.ndarray]:
    """Draw the true and the predicted instances on a picture that was enlarged by `factor`."""
    truth, found = sample.gt_instances, sample.pred_instances
    found = found[found.scores >= SCORE_THRESHOLD]
    palette = [colors[name] for name in classes]
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
    colors: Mapping[str, Color],
) -> list[np.ndarray]:
    """Draw the true and the predicted classes over a picture that was enlarged by `factor`."""
    palette = [colors[name] for name in classes]
    maps = (sample.gt_sem_seg.data[0], sample.pred_sem_seg.data[0])
    return [draw_segmentation(image, enlarge(m.numpy(), factor), palette) for m in maps]


def _sheet_title(detector_config: str | Path, segmentor_config: str | Path) -> str:
    configs = (read_config(str(file)) for file in (detector_config, segmentor_config))
    backbones = dict.fromkeys(contestant_name(cfg) for cfg in configs)
    names = ' and '.join(backbones)
    return f'{names}: predictions of Mask R-CNN (score at least {SCORE_THRESHOLD}) and UperNet'


def _spread(start: int, sizes: Sequence[int]) -> list[int]:
    """Return the positions of items of the given sizes in a row, with gaps between them."""
    return list(itertools.accumulate(sizes[:-1], lambda at, size: at + size + GAP, initial=start))


def _row_name(name: str) -> np.ndarray:
    """Return the text of a row's name, with a line break after each colon."""
    lines = [text_cover(line, HEADING_CAPITAL) for line in name.replace(': ', ':\n').split('\n')]
    width = max(line.shape[1] for line in lines)
    return np.vstack([np.pad(line, ((0, 0), (width - line.shape[1], 0))) for line in lines])


def _legend(entries: Sequence[tuple[str, Color]], width: int) -> np.ndarray:
    """Return swatches with names, in lines of `width` pixels; an empty picture if there are none.

    It is wider than `width` if a single name is.
    """
    if not entries:
        return np.zeros((0, 0, 3), np.uint8)
    blocks = []
    for name, color in entries:
        cover = text_cover(name, LEGEND_CAPITAL)
        side = cover.shape[0]
        block = np.full((side, side + GAP + cover.shape[1], 3), PAPER, np.uint8)
        block[2:-2, 2:-2][:, : side - 4] = color
        ink_text(block, cover, side + GAP, 0)
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
        paste(foot, block, x, y)
    return foot
