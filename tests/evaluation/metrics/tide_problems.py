"""Detection problems with cases in which implementations of TIDE can differ."""

from collections.abc import Iterator

import numpy as np
from pycocotools import mask as coco_mask

from evaluation.benchmark.evaluator_speed import Problem, generate_problem

SIDE = 48
CLASSES = 5
# Widths and heights in pixels. Their overlaps are often exactly 0.1 or 0.5.
SIDES = (4, 5, 8, 10, 12, 15, 16, 20)
SHIFTS = (-5, -2, -1, 0, 0, 0, 1, 2, 5)


def problems() -> Iterator[tuple[str, Problem]]:
    """Yield small problems with their names, each from a seed.

    Cases in which the suite follows COCO but the tool does not are excluded: equal scores, more than
    100 detections in an image, detections that overlap a crowd by exactly 0.5.
    """
    for seed in range(12):
        # In the last four, class 5 has detections but no objects.
        yield f'boxes {seed}', boxes_problem(seed, CLASSES - (seed >= 8))
    for seed in range(4):
        yield f'outlines {seed}', generate_problem(images=30, detections=25, classes=4, seed=seed)


def boxes_problem(seed: int, object_classes: int, images: int = 12) -> Problem:
    """Return rectangles on a small grid, a quarter of them crowds, with several detections of each.

    Args:
        seed: random seed.
        object_classes: number of the `CLASSES` classes that have objects.
        images: number of images.
    """
    random = np.random.default_rng(seed)
    annotations, predictions = [], []
    for image in range(1, images + 1):
        objects = [_box(random) for _ in range(random.integers(0, 6))]
        labels = random.integers(0, object_classes, len(objects))
        crowd = random.random(len(objects)) < 0.25
        for box, label, is_crowd in zip(objects, labels.tolist(), crowd.tolist(), strict=True):
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': image,
                    'category_id': label + 1,
                    'bbox': [float(side) for side in box],
                    'segmentation': _code(box),
                    'area': float(box[2] * box[3]),
                    'iscrowd': int(is_crowd),
                }
            )
        predictions.append({'img_id': image, **_detections(random, objects, labels, crowd)})
    # A permutation, so that all scores of the problem differ.
    count = sum(len(each['labels']) for each in predictions)
    scores = (random.permutation(count) + 1) / (count + 1)
    for each in predictions:
        each['scores'], scores = np.split(scores, [len(each['labels'])])
    truth = {
        'images': [{'id': n, 'height': SIDE, 'width': SIDE} for n in range(1, images + 1)],
        'annotations': annotations,
        'categories': [{'id': n, 'name': f'class {n}'} for n in range(1, CLASSES + 1)],
    }
    return Problem(truth, predictions)


def _detections(
    random: np.random.Generator, objects: list[list[int]], labels: np.ndarray, crowd: np.ndarray
) -> dict:
    """Return detections near objects and anywhere, without scores."""
    boxes, detected = [], []
    for box, label in zip(objects, labels, strict=True):
        for _ in range(random.integers(0, 5)):
            boxes.append(_moved(random, box))
            detected.append(label if random.random() < 0.6 else random.integers(CLASSES))
    for _ in range(random.integers(0, 4)):
        boxes.append(_box(random))
        detected.append(random.integers(CLASSES))
    kept = [i for i, box in enumerate(boxes) if not _is_half_inside(box, objects, crowd)]
    boxes, detected = [boxes[i] for i in kept], [detected[i] for i in kept]
    corners = [(x, y, x + w, y + h) for x, y, w, h in boxes]
    return {
        'bboxes': np.array(corners, np.float32).reshape(-1, 4),
        'labels': np.array(detected, np.int64),
        'masks': [_code(box) for box in boxes],
    }


def _is_half_inside(box: list[int], objects: list[list[int]], crowd: np.ndarray) -> bool:
    """Return whether exactly half of a box lies inside a crowd."""
    crowds = np.array(objects, np.float64).reshape(-1, 4)[crowd]
    return len(crowds) > 0 and 0.5 in coco_mask.iou(
        np.array([box], np.float64), crowds, [1] * len(crowds)
    )


def _box(random: np.random.Generator) -> list[int]:
    width, height = random.choice(SIDES, 2).tolist()
    return [random.integers(SIDE - width).item(), random.integers(SIDE - height).item(), width, height]


def _moved(random: np.random.Generator, box: list[int]) -> list[int]:
    """Shift a box inside the image, sometimes with half or double width."""
    x, y, width, height = box
    width = max(1, int(width * random.choice((0.5, 1, 1, 1, 2))))
    x, y = x + random.choice(SHIFTS).item(), y + random.choice(SHIFTS).item()
    return [min(max(x, 0), SIDE - width), min(max(y, 0), SIDE - height), width, height]


def _code(box: list[int]) -> dict:
    x, y, width, height = box
    mask = np.zeros((SIDE, SIDE), np.uint8, order='F')
    mask[y : y + height, x : x + width] = 1
    return coco_mask.encode(mask)
