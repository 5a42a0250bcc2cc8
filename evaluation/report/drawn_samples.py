"""An image of a test set, its truth and what a model predicts of it, as small pictures."""

import base64
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from evaluation.engine.drawing.pixels import Colour
from evaluation.engine.drawing.predictions import (
    UNLABELLED,
    colour_classes,
    draw_instances,
    draw_segmentation,
)
from evaluation.engine.drawing.trained import SCORE_THRESHOLD, Trained

# Of the longer side, pixels; smaller images are enlarged.
SIDE = 320
QUALITY = 78
GUESSES = 3


def draw_sample(trained: Trained, index: int) -> dict:
    """Draw one image.

    Args:
        trained: model and test set.
        index: of the image.

    Returns:
        `shown`: the image with its truth, the same for all models. `prediction`: picture and a line of
        text; without a picture where nothing is drawn, as in classification.

    Raises:
        UserError: the image cannot be read.
    """
    sample = trained.predict(index)
    image = _resized(trained.image(index))
    if 'pred_instances' in sample:
        truth, found, *texts = _instances(image, sample, trained)
    elif 'pred_sem_seg' in sample:
        truth, found, *texts = _segments(image, sample, trained)
    else:
        return _classified(image, sample, trained)
    height, width = image.shape[:2]
    return {
        'shown': {'truth': as_jpeg(truth), 'size': [width, height], 'truthText': texts[0]},
        'prediction': {'image': as_jpeg(found), 'text': texts[1], 'correct': None},
    }


def as_jpeg(image: np.ndarray) -> str:
    """A picture, (H, W, 3) uint8, RGB, as a data URI."""
    content = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return 'data:image/jpeg;base64,' + base64.b64encode(content.tobytes()).decode()


def _resized(image: np.ndarray) -> np.ndarray:
    factor = SIDE / max(image.shape[:2])
    size = [max(1, round(length * factor)) for length in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def _instances(image: np.ndarray, sample: Any, trained: Trained) -> tuple:
    truth, found = sample.gt_instances, sample.pred_instances
    found = found[found.scores >= SCORE_THRESHOLD]
    height, width = image.shape[:2]
    palette = _palette(trained)

    factors = np.array([width / sample.ori_shape[1], height / sample.ori_shape[0]] * 2)

    def drawn(masks: np.ndarray | None, instances: Any, scores: np.ndarray | None) -> np.ndarray:
        # A detector without masks has boxes to draw, and no area to colour.
        if masks is None:
            masks = np.zeros((len(instances), height, width), bool)
        small = [
            cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
            for mask in masks
        ]
        return draw_instances(
            image,
            np.array(small, bool).reshape(-1, height, width),
            instances.bboxes.numpy() * factors,
            instances.labels.numpy(),
            scores,
            trained.classes,
            palette,
        )

    return (
        drawn(truth.masks.to_ndarray() if 'masks' in truth else None, truth, None),
        drawn(found.masks.numpy() if 'masks' in found else None, found, found.scores.numpy()),
        _counted(len(truth), 'object'),
        f'{len(found)} found with a score of {SCORE_THRESHOLD} or more',
    )


def _segments(image: np.ndarray, sample: Any, trained: Trained) -> tuple:
    truth, found = sample.gt_sem_seg.data[0].numpy(), sample.pred_sem_seg.data[0].numpy()
    palette, size = _palette(trained), image.shape[1::-1]
    labelled = truth != UNLABELLED
    right = np.mean(truth[labelled] == found[labelled]) if labelled.any() else None
    pictures = [
        draw_segmentation(
            image,
            cv2.resize(each.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST),
            palette,
        )
        for each in (truth, found)
    ]
    present = [trained.classes[label] for label in np.unique(truth[labelled])]
    return (
        *pictures,
        ', '.join(present),
        'no labelled pixels' if right is None else f'{100 * right:.1f} % of the labelled pixels right',
    )


def _classified(image: np.ndarray, sample: Any, trained: Trained) -> dict:
    height, width = image.shape[:2]
    scores = sample.pred_scores.numpy()
    order = np.argsort(-scores, kind='stable')[:GUESSES]
    label = int(sample.gt_label)
    return {
        'shown': {
            'truth': as_jpeg(image),
            'size': [width, height],
            'truthText': trained.classes[label],
        },
        'prediction': {
            'image': None,
            'text': ', '.join(f'{trained.classes[i]} {100 * scores[i]:.0f} %' for i in order),
            'correct': bool(order[0] == label),
        },
    }


def _palette(trained: Trained) -> Sequence[Colour]:
    """Colours of the data set's own where it has them."""
    own = trained.dataset.metainfo.get('palette')
    if own is not None and len(own) == len(trained.classes):
        return [tuple(colour) for colour in own]
    return list(colour_classes(trained.classes, {}).values())


def _counted(number: int, name: str) -> str:
    return f'{number} {name}{"" if number == 1 else "s"}'
