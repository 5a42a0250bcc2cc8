"""Adapter for detection: compares predicted boxes and masks with ground truth.

COCO's average precision depends only on which detections of an image match its objects at each
overlap. These matches are computed image by image and take little space, so they are what is kept.
"""

import backbones  # noqa: F401  isort: skip  (before mmdet, which needs its operators)
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from mmdet.models import BaseDetector
from mmdet.structures import DetDataSample
from mmengine.config import Config
from pycocotools import mask as coco_mask
from torch import nn

from evaluation.analysis.adapter import Sample, Samples, as_tensors, open_samples, test_dataset
from evaluation.data.coco_faults import is_run_length_code, is_usable, polygons_are_drawable
from evaluation.data.dataset_config import step_name
from evaluation.metrics.coco_matching import (
    KINDS,
    OVERLAPS,
    RECALLS,
    best_of_each_class,
    match_image,
    overlaps_of,
    sides_of,
)
from evaluation.metrics.predictions import encode_masks
from evaluation.metrics.resampled_precision import precision_sums, ranked
from evaluation.utils.errors import UserError

# Polygons, each (K, 2), x and y in pixels, or a run-length code.
Outline = Sequence[np.ndarray] | dict
LEFT_OUT = ('LoadAnnotations', 'PackDetInputs')


@dataclass(frozen=True)
class Objects:
    """Ground-truth objects of an image.

    Attributes:
        size: height and width of the image, in pixels.
        labels: (N,), class indices from 0.
        boxes: (N, 4), left, top, right, bottom in pixels.
        crowd: (N,), bool, whether an object is a crowd, so that detections on it are ignored.
        outlines: outline of each object.
    """

    size: tuple[int, int]
    labels: np.ndarray
    boxes: np.ndarray
    crowd: np.ndarray
    outlines: Sequence[Outline]

    def codes(self) -> list[dict]:
        """Return the masks as run-length codes."""
        return [code_of(outline, self.size) for outline in self.outlines]


@dataclass(frozen=True)
class Detections:
    """Detections in an image.

    Attributes:
        size: height and width of the image, in pixels.
        labels: (N,), class indices from 0.
        scores: (N,), float32.
        boxes: (N, 4), left, top, right, bottom in pixels.
        masks: run-length codes; None if the detector predicts no masks.
    """

    size: tuple[int, int]
    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    masks: Sequence[dict] | None


def code_of(outline: Outline, size: tuple[int, int]) -> dict:
    """Return the run-length code of an outline in an image of a size, rasterized as in COCO."""
    if isinstance(outline, dict):
        return outline
    height, width = size
    polygons = [polygon.ravel().tolist() for polygon in outline]
    return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))


def compressed(segmentation: dict) -> dict:
    """Compress a run-length code of an annotation file, whose runs may be a list of numbers."""
    if isinstance(segmentation['counts'], list):
        return coco_mask.frPyObjects(segmentation, *segmentation['size'])
    return segmentation


def resized_code(code: dict, size: tuple[int, int]) -> dict:
    """Resize a run-length code to a different image size, by nearest neighbor."""
    height, width = size
    if code['size'] == [height, width]:
        return code
    mask = coco_mask.decode(code)
    resized = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return coco_mask.encode(np.asfortranarray(resized))


def rectangle(box: np.ndarray) -> np.ndarray:
    """Return a box (4,) as a polygon (4, 2)."""
    left, top, right, bottom = box
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float64)


def match(truth: Objects, found: Detections, kind: str) -> dict[str, np.ndarray]:
    """Match the detections of an image with its objects.

    Args:
        truth: ground-truth objects.
        found: detections.
        kind: `bbox` or `segm`.

    Returns:
        `labels` (D,) and `scores` (D,) of the detections, sorted by class and then by descending score;
        `hits` (D,) and `ignored` (D,), with a bit for each overlap; and `truths`, the labels of the
        objects without crowds.
    """
    kept = best_of_each_class(found.labels, found.scores)
    if kind == 'bbox':
        detected = np.array(sides_of(found.boxes)).reshape(-1, 4)[kept]
        present = np.array(sides_of(truth.boxes)).reshape(-1, 4)
    else:
        detected, present = [found.masks[index] for index in kept], truth.codes()
    crowd = np.asarray(truth.crowd, np.bool_)
    labels = found.labels[kept]
    hits, ignored, _ = match_image(
        overlaps_of(detected, present, crowd),
        labels.astype(np.int64),
        truth.labels.astype(np.int64),
        crowd,
        np.zeros((1, len(kept)), np.bool_),
        np.zeros((1, len(crowd)), np.bool_),
        OVERLAPS,
    )
    return {
        'labels': labels.astype(np.int16),
        'scores': found.scores[kept].astype(np.float32),
        'hits': hits[:, 0],
        'ignored': ignored[:, 0],
        'truths': truth.labels[~crowd].astype(np.int16),
    }


def average_precision(matches: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the mean precision over recalls and classes at each overlap.

    Args:
        matches: concatenated matches of many images.

    Returns:
        (overlaps,), from 0 to 1; NaN if there are no objects.
    """
    labels, truths = (matches[name].astype(np.int64) for name in ('labels', 'truths'))
    classes = 1 + max(labels.max(initial=-1), truths.max(initial=-1))
    whole = np.zeros(len(labels), np.int64)
    order, starts, tied = ranked(labels, matches['scores'], whole, classes)
    precisions = precision_sums(
        whole,
        starts,
        tied,
        matches['hits'][order],
        matches['ignored'][order],
        np.bincount(truths, minlength=classes),
        np.ones(1, np.int64),
        RECALLS,
        len(OVERLAPS),
    )
    present = precisions[~np.isnan(precisions[:, 0])]
    return present.mean(0) if len(present) else np.full(len(OVERLAPS), np.nan)


class Detection:
    """Adapter for detection: truths are `Objects`, predictions are `Detections`."""

    name = 'detection'
    is_cropped = False
    loss_takes_one = True

    @classmethod
    def of(cls, model: nn.Module) -> 'Detection | None':
        """Return the adapter for a model; None if it has a different task."""
        return cls() if isinstance(model, BaseDetector) else None

    def samples(self, cfg: Config, limit: int | None) -> Samples:
        """Return the images of the config's test data set, resized by its pipeline, with objects."""
        steps = test_dataset(cfg).pipeline
        return open_samples(
            cfg, limit, [step for step in steps if step_name(step) not in LEFT_OUT], make_sample
        )

    def predict(self, model: nn.Module, images: Sequence[np.ndarray]) -> list[Detections]:
        """Return detections for images (H, W, 3), all of the same size."""
        size = images[0].shape[:2]
        facts = {'img_id': 0, 'img_shape': size, 'ori_shape': size, 'scale_factor': (1.0, 1.0)}
        samples = [DetDataSample(metainfo=facts) for _ in images]
        data = model.data_preprocessor({'inputs': as_tensors(images), 'data_samples': samples})
        with torch.no_grad():
            results = model(**data, mode='predict')
        return [_detections(each.pred_instances, size) for each in results]

    def measure(self, prediction: Detections, truth: Objects) -> dict[str, np.ndarray]:
        """Return matches of boxes, and of masks if the detector predicts them; see `match`."""
        kinds = [kind for kind in KINDS if kind == 'bbox' or prediction.masks is not None]
        return {
            f'{KINDS[kind]} {name}': values
            for kind in kinds
            for name, values in match(truth, prediction, kind).items()
        }

    def combined(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Concatenate the arrays."""
        return np.concatenate(arrays)

    def metrics(self, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Return `box AP`, `box AP50`, and with masks `mask AP`, `mask AP50`, in percent."""
        found = {}
        for kind in KINDS.values():
            matches = {
                name.removeprefix(f'{kind} '): values
                for name, values in arrays.items()
                if name.startswith(f'{kind} ')
            }
            if matches:
                precision = 100 * average_precision(matches)
                found[f'{kind} AP'], found[f'{kind} AP50'] = float(precision.mean()), float(precision[0])
        return found


def make_sample(results: dict) -> Sample:
    """Return an image with its objects, in its own frame.

    Raises:
        UserError: the pipeline changes the image other than by resizing.
    """
    image, path = results['img'], results['img_path']
    height, width = results['ori_shape']
    across, down = results.get('scale_factor', (1.0, 1.0))
    if image.shape[:2] != (round(height * down), round(width * across)) or results.get('flip'):
        raise UserError(
            f'the pipeline of test_dataloader does more than resize {path}; '
            'remove transforms that crop, pad or flip'
        )
    scale = np.array([across, down])
    instances = results['instances']
    boxes = np.array([each['bbox'] for each in instances], np.float64).reshape(-1, 2, 2) * scale
    boxes = boxes.reshape(-1, 4)
    outlines = [
        _outline(each.get('mask'), box, scale, image.shape[:2], (height, width))
        for each, box in zip(instances, boxes, strict=True)
    ]
    objects = Objects(
        size=image.shape[:2],
        labels=np.array([each['bbox_label'] for each in instances], np.int64),
        boxes=boxes,
        crowd=np.array([each.get('ignore_flag', 0) for each in instances], bool),
        outlines=outlines,
    )
    return Sample(path, image, objects)


def _outline(
    mask: list | dict | None,
    box: np.ndarray,
    scale: np.ndarray,
    size: tuple[int, int],
    original_size: tuple[int, int],
) -> Outline:
    """Return an annotated mask in a resized image, or the box if no valid mask exists."""
    if is_run_length_code(mask, original_size):
        return resized_code(compressed(mask), size)
    # Startup checks skip masks that the model does not predict, so they may be invalid.
    if not polygons_are_drawable(mask) or not all(map(is_usable, mask)):
        return [rectangle(box)]
    return [np.asarray(polygon, np.float64).reshape(-1, 2) * scale for polygon in mask]


def _detections(found, size: tuple[int, int]) -> Detections:
    return Detections(
        size=size,
        labels=found.labels.cpu().numpy(),
        scores=found.scores.float().cpu().numpy(),
        boxes=found.bboxes.double().cpu().numpy(),
        masks=encode_masks(found.masks) if 'masks' in found else None,
    )
