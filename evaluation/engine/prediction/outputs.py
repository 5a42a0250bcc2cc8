"""Files of predictions: COCO results, maps of classes, top-5 classes, pictures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.engine.drawing.pixels import Colour
from evaluation.engine.drawing.predictions import draw_instances
from evaluation.engine.submission.metrics import as_text, png
from evaluation.metrics.average_precision.matching import to_coco
from evaluation.metrics.predictions import encode_masks

# COCO numbers its 80 classes up to 90.
COCO_GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = [number for number in range(1, 91) if number not in COCO_GAPS]
TOP = 5


def category_ids(classes: Sequence[str]) -> list[int]:
    """Return COCO's own ids if the classes are COCO's, else 1, 2, ..."""
    is_coco = len(classes) == len(COCO_IDS) and (classes[0], classes[-1]) == ('person', 'toothbrush')
    return COCO_IDS if is_coco else list(range(1, len(classes) + 1))


def detections(
    sample: Any, number: int, file: str, classes: Sequence[str], threshold: float
) -> list[dict]:
    """Return the instances of an image as COCO results, with the names of image and class.

    Args:
        sample: what mmdet's detector returned.
        number: id of the image.
        file: its name.
        classes: their names.
        threshold: instances with a lower score are left out.
    """
    found = sample.pred_instances
    found = found[found.scores >= threshold]
    image = {name: found[name].numpy() for name in ('bboxes', 'scores', 'labels')}
    entries = to_coco([{'img_id': number, **image}], category_ids(classes), 'bbox')
    masks = encode_masks(found.masks) if 'masks' in found else [None] * len(entries)
    for entry, mask, label in zip(entries, masks, image['labels'].tolist(), strict=True):
        entry.update(file_name=file, category_name=classes[label])
        if mask is not None:
            entry['segmentation'] = as_text(mask)
    return entries


def class_map(sample: Any) -> np.ndarray:
    """Return the class of each pixel, (H, W), uint8, from what mmseg's segmentor returned."""
    return sample.pred_sem_seg.data[0].numpy().astype(np.uint8)


def top_classes(sample: Any, file: str, classes: Sequence[str]) -> dict:
    """Return the most probable classes of an image."""
    scores, labels = sample.pred_scores.topk(min(TOP, len(classes)))
    pairs = zip(labels.tolist(), scores.tolist(), strict=True)
    return {
        'file_name': file,
        'top5': [{'label': i, 'class': str(classes[i]), 'score': score} for i, score in pairs],
    }


def instances_picture(
    image: np.ndarray,
    sample: Any,
    classes: Sequence[str],
    palette: Sequence[Colour],
    threshold: float,
) -> np.ndarray:
    """Draw the instances with at least a score on an image (H, W, 3), RGB."""
    found = sample.pred_instances
    found = found[found.scores >= threshold]
    count = len(found)
    masks = found.masks.numpy() if 'masks' in found else np.zeros((count, *image.shape[:2]), bool)
    arrays = (found.bboxes.numpy(), found.labels.numpy(), found.scores.numpy())
    return draw_instances(image, masks, *arrays, classes, palette)


def save_json(file: Path, content: Any) -> None:
    """Write JSON."""
    file.write_text(json.dumps(content, indent=1, allow_nan=False) + '\n', encoding='utf-8')


def save_map(file: Path, labels: np.ndarray) -> None:
    """Write a map as PNG, and make its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(png(labels))
