"""Detection: boxes and masks of objects against those that are there."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from mmdet.models import BaseDetector
from mmdet.structures import DetDataSample
from mmengine.config import Config
from torch import nn

from evaluation.analysis.tasks.inputs import as_tensors
from evaluation.analysis.tasks.matching import average_precision, match
from evaluation.analysis.tasks.objects import (
    Detections,
    Objects,
    Outline,
    compressed,
    rectangle,
    resized_code,
)
from evaluation.analysis.tasks.samples import Sample, Samples, open_samples, test_dataset
from evaluation.data.coco_faults import is_run_length_code, is_usable, polygons_are_drawable
from evaluation.data.dataset_config import step_name
from evaluation.metrics.average_precision.detections import KINDS
from evaluation.metrics.run_lengths import encode_masks
from evaluation.utils.errors import UserError

LEFT_OUT = ('LoadAnnotations', 'PackDetInputs')


class Detection:
    """Truths are `Objects`, predictions `Detections`, with masks where the detector makes some."""

    name = 'detection'
    is_cropped = False
    loss_takes_one = True

    @classmethod
    def of(cls, model: nn.Module) -> 'Detection | None':
        """Return the adapter of a model; None where it is of another task."""
        return cls() if isinstance(model, BaseDetector) else None

    def samples(self, cfg: Config, limit: int | None) -> Samples:
        """The images of the config's test data set, resized as it says, and their objects."""
        steps = test_dataset(cfg).pipeline
        return open_samples(
            cfg, limit, [step for step in steps if step_name(step) not in LEFT_OUT], make_sample
        )

    def predict(self, model: nn.Module, images: Sequence[np.ndarray]) -> list[Detections]:
        """What is found in each image (H, W, 3), all of one size."""
        size = images[0].shape[:2]
        facts = {'img_id': 0, 'img_shape': size, 'ori_shape': size, 'scale_factor': (1.0, 1.0)}
        samples = [DetDataSample(metainfo=facts) for _ in images]
        data = model.data_preprocessor({'inputs': as_tensors(images), 'data_samples': samples})
        with torch.no_grad():
            results = model(**data, mode='predict')
        return [_detections(each.pred_instances, size) for each in results]

    def measure(self, prediction: Detections, truth: Objects) -> dict[str, np.ndarray]:
        """Matches of boxes, and of masks where there are some: see `matching.match`."""
        kinds = [kind for kind in KINDS if kind == 'bbox' or prediction.masks is not None]
        return {
            f'{KINDS[kind]} {name}': values
            for kind in kinds
            for name, values in match(truth, prediction, kind).items()
        }

    def combined(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """All, one after another."""
        return np.concatenate(arrays)

    def metrics(self, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        """`box AP`, `box AP50`, and with masks `mask AP`, `mask AP50`, in percent."""
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
    """An image and its objects in its frame.

    Raises:
        UserError: the pipeline does more than to resize.
    """
    image, path = results['img'], results['img_path']
    height, width = results['ori_shape']
    across, down = results.get('scale_factor', (1.0, 1.0))
    if image.shape[:2] != (round(height * down), round(width * across)) or results.get('flip'):
        raise UserError(
            f'the pipeline of test_dataloader does more than to resize {path}; '
            'take out what crops, pads or flips'
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
    """An annotated mask in a resized image; the box where there is none that can be drawn."""
    if is_run_length_code(mask, original_size):
        return resized_code(compressed(mask), size)
    # The checks before a run do not look at masks that the model does not predict.
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
