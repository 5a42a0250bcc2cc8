"""Pictures of the predictions of a detector and a segmentor beside the ground truth."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from mmengine.config import Config
from mmengine.dataset import BaseDataset

from evaluation.config.recipe import contestant_name
from evaluation.engine.drawing import (
    Color,
    color_classes,
    draw_instances,
    draw_segmentation,
    enlarge,
)
from evaluation.engine.predictor import SCORE_THRESHOLD, Trained, load_trained
from evaluation.scenes.scenes import PALETTE, SEGMENT_CLASSES
from evaluation.utils.errors import UserError
from evaluation.utils.files import write_bytes

# Config, and path of the checkpoint.
Run = tuple[Config, str | Path]

SCENE_COLORS: Mapping[str, Color] = dict(zip(SEGMENT_CLASSES, PALETTE, strict=True))
# Smaller pictures are enlarged to this side before anything is drawn on them, in pixels.
PANEL_SIDE = 256
ROWS = ('image', 'instances: truth', 'instances: Mask R-CNN', 'classes: truth', 'classes: UperNet')

PANEL_INCHES = 2.5


@dataclass(frozen=True)
class Sheet:
    """Pictures in rows and columns.

    Attributes:
        title: title of the sheet.
        column_titles: one title per column.
        rows: pictures of each row by its name, (H, W, 3) uint8, RGB.
        legend: RGB colors by name.
    """

    title: str
    column_titles: Sequence[str]
    rows: Mapping[str, Sequence[np.ndarray]]
    legend: Mapping[str, Color]


def draw_sheet(sheet: Sheet) -> Figure:
    """Draw a sheet with its titles, names and legend."""
    columns = len(sheet.column_titles)
    size = (PANEL_INCHES * columns + 1, PANEL_INCHES * len(sheet.rows) + 0.8)
    figure = Figure(figsize=size, layout='constrained')
    figure.suptitle(sheet.title)
    axes = figure.subplots(len(sheet.rows), columns, squeeze=False)
    for line, (name, panels) in zip(axes, sheet.rows.items(), strict=True):
        line[0].set_ylabel(name.replace(': ', ':\n'), rotation=0, ha='right', va='center')
        for place, panel in zip(line, panels, strict=True):
            place.imshow(panel)
            place.set(xticks=[], yticks=[])
            place.spines[:].set_visible(False)
    for place, column_title in zip(axes[0], sheet.column_titles, strict=True):
        place.set_title(column_title, fontsize='medium')
    handles = [Patch(color=np.divide(color, 255), label=name) for name, color in sheet.legend.items()]
    figure.legend(handles=handles, loc='outside lower center', ncols=len(handles), frameon=False)
    return figure


def predictions_sheet(
    detector_run: Run,
    segmentor_run: Run,
    count: int = 4,
    colors: Mapping[str, Color] = SCENE_COLORS,
) -> Sheet:
    """Draw the predictions of a Mask R-CNN and an UperNet on the same validation pictures.

    The pictures are the first ones with an object. Instances with a score of 0.3 or more are drawn.
    Crowds are not drawn in the ground truth, since a model need not detect them.

    Args:
        detector_run: config and checkpoint of the detector.
        segmentor_run: config and checkpoint of the segmentor, which must have the same validation
            pictures in the same order.
        count: number of pictures.
        colors: RGB color by class name, for both tasks; other classes get new colors.

    Returns:
        A sheet with a column for each picture. The rows show the picture, true and predicted instances,
        true and predicted classes.

    Raises:
        UserError: a file is missing, a checkpoint does not fit its config, there are fewer than
            `count` pictures with objects, or the two data sets have different pictures.
    """
    detector, segmentor = _load(detector_run, 'mmdet'), _load(segmentor_run, 'mmseg')
    if len(detector.dataset) != len(segmentor.dataset):
        raise UserError(
            f'{detector_run[0].filename} validates on {len(detector.dataset)} pictures, '
            f'{segmentor_run[0].filename} on {len(segmentor.dataset)}; write both data sets from the '
            'same scenes'
        )
    indices = _first_with_objects(detector.dataset, count)
    by_name = color_classes([*segmentor.classes, *detector.classes], colors)
    columns = [_column(detector, segmentor, index, by_name) for index in indices]
    return Sheet(
        _sheet_title(detector_run[0], segmentor_run[0]),
        [f'validation image {index + 1}' for index in indices],
        {name: panels for name, *panels in zip(ROWS, *columns, strict=True)},
        by_name,
    )


def write_sheet(path: Path, sheet: Sheet) -> None:
    """Draw a sheet and write it as PNG, atomically."""
    buffer = io.BytesIO()
    draw_sheet(sheet).savefig(buffer, format='png', dpi=100)
    write_bytes(path, buffer.getvalue())


def _load(run: Run, scope: str) -> Trained:
    config, checkpoint = run
    if config.get('default_scope') != scope:
        raise UserError(f'{config.filename} is not a config of {scope}')
    return load_trained(config, config.filename, str(checkpoint), 'val_dataloader')


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


def _sheet_title(detector: Config, segmentor: Config) -> str:
    backbones = dict.fromkeys(contestant_name(cfg) for cfg in (detector, segmentor))
    names = ' and '.join(backbones)
    return f'{names}: predictions of Mask R-CNN (score at least {SCORE_THRESHOLD}) and UperNet'
