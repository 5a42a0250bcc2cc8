"""Matching of detections to objects, image by image, and classification of unmatched detections.

The error types are those of TIDE (Bolya et al., arXiv 2008.08115, section 2.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO

from evaluation.metrics.coco_matching import (
    AREAS,
    KINDS,
    OVERLAPS,
    best_of_each_class,
    mask_areas,
    match_image,
    outside_ranges,
    overlaps_of,
    sides_of,
)
from evaluation.metrics.instance_records import ERRORS, InstanceEvidence, Matches

FOREGROUND = 0.5
BACKGROUND = 0.1
# The smallest positive threshold: an object must be touched to be found.
ANY_OVERLAP = np.array([np.finfo(np.float64).tiny])


def classify_errors(
    overlaps: np.ndarray,
    detected: Sequence[int] | np.ndarray,
    present: Sequence[int] | np.ndarray,
    right: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Assign an error type to each detection of an image.

    Let s be the largest overlap with an object of the detection's class, and o the largest overlap with
    an object of any other class. The first rule that applies to an incorrect detection decides:
    localization error if 0.1 <= s <= 0.5; classification error if o >= 0.5; duplicate if s > 0.5, since
    a detection with a higher score has the object; background if both are at most 0.1; otherwise both.

    Args:
        overlaps: (D, G), overlaps with objects that are not crowds.
        detected: (D,), class of each detection.
        present: (G,), class of each object.
        right: (D,), bool, whether a detection matches one of these objects at an overlap of 0.5.

    Returns:
        Index into `ERRORS`, (D,), and index of the object that the detection would match if its class or
        localization were correct, (D,); -1 for other errors and correct detections.
    """
    detected, present = np.asarray(detected), np.asarray(present)
    # Add a column for "no object", so that there is at least one column.
    overlaps = np.concatenate([overlaps, np.zeros((len(overlaps), 1))], axis=1)
    same = detected[:, None] == np.append(present, -1)
    own, others = np.where(same, overlaps, 0.0), np.where(same, 0.0, overlaps)
    own_best, other_best = own.max(1), others.max(1)
    is_error = {
        'right': right,
        # Both ends included: a second detection at exactly 0.5 is not a duplicate.
        'localisation': (own_best >= BACKGROUND) & (own_best <= FOREGROUND),
        'classification': other_best >= FOREGROUND,
        'duplicate': own_best >= FOREGROUND,
        'background': np.maximum(own_best, other_best) <= BACKGROUND,
    }
    # The first condition that holds decides; `select` needs arrays of the same length.
    places = [np.full(len(overlaps), ERRORS.index(name)) for name in is_error]
    errors = np.select(list(is_error.values()), places, ERRORS.index('both'))
    targets = np.full(len(overlaps), -1)
    for name, candidates in (('localisation', own), ('classification', others)):
        chosen = errors == ERRORS.index(name)
        targets[chosen] = candidates[chosen].argmax(1)
    return errors, targets


@dataclass(frozen=True)
class _Image:
    """Detections and objects of an image: classes, scores, and shapes by kind of overlap."""

    number: int
    detected: np.ndarray
    scores: np.ndarray
    found: dict[str, list]
    found_areas: dict[str, np.ndarray]
    present: np.ndarray
    crowd: np.ndarray
    there: dict[str, list]
    areas: np.ndarray


def collect_instances(
    truth: COCO,
    predictions: Sequence[dict],
    categories: Sequence[int | str],
    kinds: Sequence[str] = tuple(KINDS),
) -> InstanceEvidence:
    """Match all predictions to the ground truth.

    Args:
        truth: ground truth; may include other images, which are ignored.
        predictions: `img_id`, `bboxes` (N, 4) as corners in pixels, `scores` (N,), `labels` (N,) and,
            for `segm`, run-length encoded `masks` of each image.
        categories: category id of each label.
        kinds: kinds of overlap, `bbox` and optionally `segm`.
    """
    by_image = {prediction['img_id']: prediction for prediction in predictions}
    images = sorted(by_image)
    names = tuple(category['name'] for category in truth.loadCats(list(categories)))
    parts = [
        _match(_read(truth, by_image[image], number, categories, kinds))
        for number, image in enumerate(images)
    ]
    return _joined(np.array(images), names, parts, [KINDS[kind] for kind in kinds])


def _read(
    truth: COCO,
    prediction: dict,
    number: int,
    categories: Sequence[int | str],
    kinds: Sequence[str],
) -> _Image:
    labels = {category: label for label, category in enumerate(categories)}
    annotations = [
        annotation
        for annotation in truth.imgToAnns.get(prediction['img_id'], ())
        if annotation['category_id'] in labels
    ]
    kept = best_of_each_class(prediction['labels'], prediction['scores'])
    boxes = np.array(sides_of(prediction['bboxes'][kept])).reshape(-1, 4)
    found, found_areas = {'bbox': boxes}, {'bbox': boxes[:, 2] * boxes[:, 3]}
    there = {'bbox': np.array([a['bbox'] for a in annotations], np.float64).reshape(-1, 4)}
    if 'segm' in kinds:
        found['segm'] = [prediction['masks'][index] for index in kept]
        found_areas['segm'] = mask_areas(found['segm'])
        there['segm'] = [truth.annToRLE(a) for a in annotations]
    return _Image(
        number=number,
        detected=prediction['labels'][kept],
        scores=prediction['scores'][kept],
        found=found,
        found_areas=found_areas,
        present=np.array([labels[a['category_id']] for a in annotations], np.int64),
        crowd=np.array([bool(a['iscrowd']) for a in annotations], np.bool_),
        there=there,
        areas=np.array([a['area'] for a in annotations], np.float64),
    )


def _match(image: _Image) -> dict[str, np.ndarray]:
    """Return the columns of evidence for one image; targets are indices into the image's objects."""
    outside = outside_ranges(image.areas)
    columns = {
        'detection_image': np.full(len(image.detected), image.number),
        'detection_class': image.detected,
        'detection_score': image.scores,
        'object_image': np.full(len(image.present), image.number),
        'object_class': image.present,
        'object_counts': ~(outside | image.crowd).T,
    }
    for kind in image.found:
        name = KINDS[kind]
        overlaps = overlaps_of(image.found[kind], image.there[kind], image.crowd)
        hits, ignored, matched = match_image(
            overlaps,
            image.detected.astype(np.int64),
            image.present,
            image.crowd,
            outside_ranges(image.found_areas[kind]),
            outside,
            OVERLAPS,
        )
        right = (hits[:, 0] & ~ignored[:, 0] & 1).astype(bool)
        errors, targets = classify_errors(
            overlaps[:, ~image.crowd], image.detected, image.present[~image.crowd], right
        )
        # Maps indices among objects that are not crowds to indices among all objects.
        places = np.append(np.flatnonzero(~image.crowd), -1)
        columns[f'{name}_hits'] = hits
        columns[f'{name}_ignored'] = ignored
        columns[f'{name}_errors'] = errors
        columns[f'{name}_targets'] = np.where(right, matched, places[targets])
        counted = (ignored[:, 0] & 1) == 0
        columns[f'{name}_overlaps'] = np.zeros(len(image.detected), np.float32)
        columns[f'{name}_overlaps'][counted] = reached_overlaps(
            overlaps[counted][:, ~image.crowd], image.detected[counted], image.present[~image.crowd]
        )
    return columns


def reached_overlaps(overlaps: np.ndarray, detected: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return the overlap of each detection with the object it finds if any overlap suffices, (D,).

    As in COCO's matching, detections with a higher score choose first, and an object is found only once.

    Args:
        overlaps: (D, G), overlaps with objects that are not crowds.
        detected: (D,), class of each detection, in order of descending score.
        present: (G,), class of each object.
    """
    none_outside = [np.zeros((1, len(each)), np.bool_) for each in (detected, present)]
    _, _, found = match_image(
        np.ascontiguousarray(overlaps),
        detected.astype(np.int64),
        present,
        none_outside[1][0],
        *none_outside,
        ANY_OVERLAP,
    )
    # The last column is for detections that find nothing.
    padded = np.append(overlaps, np.zeros((len(overlaps), 1)), axis=1)
    return padded[np.arange(len(found)), found]


def _joined(
    images: np.ndarray,
    classes: tuple[str, ...],
    parts: Sequence[dict[str, np.ndarray]],
    kinds: Sequence[str],
) -> InstanceEvidence:
    """Join the evidence of all images, with detections sorted by class."""
    objects_before = np.cumsum([0, *(len(part['object_image']) for part in parts)])
    for part, before in zip(parts, objects_before, strict=False):
        for name in kinds:
            targets = part[f'{name}_targets']
            part[f'{name}_targets'] = np.where(targets >= 0, targets + before, -1)
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(whole['detection_class'], kind='stable')
    for name in whole:
        if not name.startswith('object'):
            whole[name] = whole[name][order]
    return InstanceEvidence(
        images=images,
        classes=classes,
        detection_image=whole['detection_image'].astype(np.int32),
        detection_class=whole['detection_class'].astype(np.int16),
        detection_score=whole['detection_score'],
        object_image=whole['object_image'].astype(np.int32),
        object_class=whole['object_class'].astype(np.int16),
        object_counts=whole['object_counts'].reshape(-1, len(AREAS)),
        matches={name: _matches(whole, name) for name in kinds},
    )


def _matches(whole: dict[str, np.ndarray], name: str) -> Matches:
    return Matches(
        hits=whole[f'{name}_hits'].astype(np.uint16),
        ignored=whole[f'{name}_ignored'].astype(np.uint16),
        errors=whole[f'{name}_errors'].astype(np.uint8),
        targets=whole[f'{name}_targets'].astype(np.int32),
        overlaps=whole[f'{name}_overlaps'].astype(np.float32),
    )
