"""Checks of what models predict, before it is counted: nothing is broadcast or left out silently."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from evaluation.utils.errors import UserError


def check_maps(predicted: Tensor, label: Tensor, image: str | None) -> None:
    """Check that a prediction has a class for each pixel of the label.

    Args:
        predicted: (1, H, W) or (H, W).
        label: of the same shape.
        image: name of the image; None where it is not known.

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
    """Check that there is a score for each class of the data set, and that the label is one.

    There may be more scores than classes: a part of ImageNet is classified among its 1,000 classes.

    Args:
        scores: (logits,).
        label: true class.
        classes: how many the data set has.
        image: name of the image; None where it is not known.

    Raises:
        UserError: there are fewer scores, or the label is no class.
    """
    if scores.ndim != 1 or len(scores) < classes:
        raise UserError(
            f'{_of(image)}scores of shape {_shape(scores)} for {classes} classes of the data set; '
            'set num_classes of the model to their number'
        )
    if not 0 <= label < classes:
        raise UserError(
            f'{_of(image)}label {label} is none of the {classes} classes of the data set; '
            'correct the list of images or the classes'
        )


def check_instances(
    prediction: Mapping[str, np.ndarray | list[dict]], classes: int, size: tuple[int, int] | None
) -> None:
    """Check that detections have as many boxes, scores, labels and masks, and that masks fit the image.

    Args:
        prediction: of an image `img_id`, `bboxes`, `scores`, `labels` and, of a model with masks,
            run-length encoded `masks`.
        classes: how many the data set has.
        size: height and width of the image in the annotations, in pixels; None if they do not tell.

    Raises:
        UserError: numbers differ, a label is no class, or masks have another size.
    """
    image = f'image {prediction["img_id"]}: '
    counts = {name: len(value) for name, value in prediction.items() if name != 'img_id'}
    if len(set(counts.values())) > 1:
        found = ', '.join(f'{count} {name}' for name, count in counts.items())
        raise UserError(f'{image}prediction of {found}; the model must give as many of each')
    labels = prediction['labels']
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise UserError(
            f'{image}predicted classes {labels.min()} to {labels.max()}, but the data set has '
            f'{classes}; set num_classes of the heads to their number'
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
