"""Predictions in the form that COCO's evaluation takes."""

from collections.abc import Sequence

import numpy as np

# What overlap is measured of: COCO's word, and the suite's in the names of metrics.
KINDS = {'bbox': 'box', 'segm': 'mask'}
# Where COCO's results format has it.
SHAPES = {'bbox': 'bbox', 'segm': 'segmentation'}


def to_coco(predictions: Sequence[dict], categories: Sequence[int], kind: str) -> list[dict]:
    """Predictions in COCO's results format.

    Args:
        predictions: of each image `img_id`, `bboxes` (N, 4) as corners in pixels, `scores` (N,),
            `labels` (N,) and, for `segm`, run-length encoded `masks`.
        categories: category id of each label.
        kind: `bbox` or `segm`; masks come without boxes, so that their area is the mask's own.
    """
    name = SHAPES[kind]
    detections = []
    for prediction in predictions:
        shapes = sides_of(prediction['bboxes']) if kind == 'bbox' else prediction['masks']
        image, scores = prediction['img_id'], prediction['scores'].tolist()
        detections += [
            {'image_id': image, 'category_id': categories[label], 'score': score, name: shape}
            for label, score, shape in zip(prediction['labels'].tolist(), scores, shapes, strict=True)
        ]
    return detections


def sides_of(corners: np.ndarray) -> list[list[float]]:
    """Left, top, width and height of boxes (N, 4) given by left, top, right, bottom."""
    low, high = np.split(corners.astype(np.float64), 2, axis=1)
    return np.concatenate([low, high - low], axis=1).tolist()
