"""Checks and compact storage of model predictions.

Nothing is broadcast or dropped silently. Masks are stored as COCO run-length codes.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import cv2
import numpy as np
import torch
from mmengine.evaluator import DumpResults
from mmengine.registry import METRICS
from pycocotools import mask as coco_mask
from torch import Tensor

from evaluation.utils.errors import UserError

# Omitted from stored predictions: ground truth, and the scores of each class at each pixel.
LEFT_OUT = ('gt_instances', 'ignored_instances', 'gt_sem_seg', 'seg_logits')


def check_maps(predicted: Tensor, label: Tensor, image: str | None) -> None:
    """Check that a prediction has a class for each pixel of the label.

    Args:
        predicted: predicted map, (1, H, W) or (H, W).
        label: label map of the same shape.
        image: name of the image; None if unknown.

    Raises:
        UserError: the shapes differ.
    """
    if predicted.shape != label.shape:
        raise UserError(
            f'{_of(image)}prediction of shape {_shape(predicted)} for a label map of shape '
            f'{_shape(label)}; load label maps after the resize of the test pipeline, and let the model '
            'predict at their size'
        )


def check_scores(scores: Tensor, label: int, classes: int, image: str | None) -> None:
    """Check that there is a score for each class of the data set, and that the label is a class.

    There may be more scores than classes: a subset of ImageNet is classified among all 1,000 classes.

    Args:
        scores: (logits,).
        label: true class.
        classes: number of classes of the data set.
        image: name of the image; None if unknown.

    Raises:
        UserError: there are fewer scores than classes, or the label is not a class.
    """
    if scores.ndim != 1 or len(scores) < classes:
        raise UserError(
            f'{_of(image)}scores of shape {_shape(scores)} for {classes} classes of the data set; '
            'set num_classes of the model to the number of classes'
        )
    if not 0 <= label < classes:
        raise UserError(
            f'{_of(image)}label {label} is not one of the {classes} classes of the data set; '
            'correct the list of images or the classes'
        )


def check_instances(
    prediction: Mapping[str, np.ndarray | list[dict]], classes: int, size: tuple[int, int] | None
) -> None:
    """Check that boxes, scores, labels and masks have the same length, and that masks fit the image.

    Args:
        prediction: `img_id`, `bboxes`, `scores`, `labels` and, for a model with masks, run-length
            encoded `masks` of an image.
        classes: number of classes of the data set.
        size: height and width of the image in the annotations, in pixels; None if not recorded.

    Raises:
        UserError: lengths differ, a label is not a class, or masks differ from the image size.
    """
    image = f'image {prediction["img_id"]}: '
    counts = {name: len(value) for name, value in prediction.items() if name != 'img_id'}
    if len(set(counts.values())) > 1:
        found = ', '.join(f'{count} {name}' for name, count in counts.items())
        raise UserError(f'{image}prediction has {found}; the model must return the same number of each')
    labels = prediction['labels']
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise UserError(
            f'{image}predicted classes {labels.min()} to {labels.max()}, but the data set has '
            f'{classes} classes; set num_classes of the heads to this number'
        )
    other = next((m['size'] for m in prediction.get('masks', ()) if size and m['size'] != [*size]), None)
    if other:
        raise UserError(
            f'{image}masks of {other[0]}x{other[1]} (height x width), but the annotations say '
            f'{size[0]}x{size[1]}; let the model predict at the original size, or correct the file'
        )


def _of(image: str | None) -> str:
    return f'{image}: ' if image else ''


def _shape(array: Tensor) -> str:
    return str(tuple(array.shape))


def encode_masks(masks: Tensor) -> list[dict]:
    """Encode masks as run-length codes, identical to those of `pycocotools.mask.encode`.

    From a device other than the CPU only the ends of runs are copied, not every pixel.

    Args:
        masks: (N, H, W), bool, on any device.

    Returns:
        `size` as [H, W] and compressed `counts` of each mask.
    """
    height, width = masks.shape[1:]
    ends = ends_of_each(masks) if masks.is_cpu else ends_on_device(masks)
    return [_code(each, height, width) for each in ends]


def ends_on_device(masks: Tensor) -> Iterator[np.ndarray]:
    """Find where the runs of masks, (N, H, W), end; for all masks at once.

    Yields:
        (runs - 1,), ascending pixel indices in COCO's column-major order; the first run is of zeros, so
        it ends at 0 if the first pixel is set.
    """
    columns = masks.transpose(1, 2).flatten(1)
    starts_set = columns[:, :1]
    # As if an unset pixel preceded the first one.
    changes = columns.diff(dim=1, prepend=starts_set.new_zeros(starts_set.shape))
    mask_index, place = changes.nonzero().cpu().numpy().T
    bounds = np.searchsorted(mask_index, np.arange(len(masks) + 1))
    return (place[start:end] for start, end in pairwise(bounds))


def ends_of_each(masks: Tensor) -> Iterator[np.ndarray]:
    """Do the same one mask at a time: on a CPU, one mask fits in the cache."""
    for mask in masks.numpy().view(np.uint8):
        column = cv2.transpose(mask).ravel()
        changes = np.flatnonzero(column[1:] != column[:-1]) + 1
        yield np.concatenate([[0], changes]) if column[0] else changes


def _code(ends: np.ndarray, height: int, width: int) -> dict:
    counts = np.diff(ends, prepend=0, append=height * width).tolist()
    return coco_mask.frPyObjects({'size': [height, width], 'counts': counts}, height, width)


@METRICS.register_module()
class DumpPredictions(DumpResults):
    """Collect the predictions of all images, then pickle them.

    mmengine's `DumpResults` keeps everything that a model returns: 0.2 GB of scores per ADE20K image and
    30 MB of masks per COCO image, too much for a whole data set. Here masks are run-length codes, and
    maps have 8 bits per pixel.

    Args:
        out_file_path: path of the file to write, .pkl or .pickle.
    """

    def __init__(self, out_file_path: str) -> None:
        super().__init__(out_file_path)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Store the predictions of a batch.

        Args:
            data_batch: unused.
            data_samples: model outputs: `pred_instances` with `masks` (N, H, W), bool, or `pred_sem_seg`
                with `data` (1, H, W).
        """
        super().process(data_batch, [smaller(sample) for sample in data_samples])


def smaller(sample: dict) -> dict:
    """Return only the predictions in a model's output for an image, in compact types."""
    kept = {name: value for name, value in sample.items() if name not in LEFT_OUT}
    if 'masks' in kept.get('pred_instances', {}):
        found = kept['pred_instances']
        kept['pred_instances'] = {**found, 'masks': encode_masks(found['masks'])}
    if 'pred_sem_seg' in kept:
        # Labels have 8 bits, so classes fit into 8 bits too.
        kept['pred_sem_seg'] = {'data': kept['pred_sem_seg']['data'].to(torch.uint8)}
    return kept
