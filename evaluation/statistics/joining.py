"""Two models' per-image records side by side, so that images can be swapped between the models."""

from collections.abc import Sequence

import numpy as np

from evaluation.metrics.evidence.files import Evidence
from evaluation.metrics.evidence.instances import InstanceEvidence, Matches
from evaluation.metrics.evidence.segmentation import SegmentationEvidence


def joined(a: Evidence, b: Evidence, by_rank: bool = False) -> Evidence:
    """Put the records of two models into one evaluation of twice as many images.

    Image i of the first model becomes image 2 i and that of the second 2 i + 1. A metric of the joined
    records with weights `swap_weights(...)` is that of a model which has some images from each. The
    interleaved order makes ties between detections of both fall out the same whichever model is first.

    Args:
        a: records of the first model, of N images.
        b: records of the second, of the same images.
        by_rank: replace the score of a detection by its rank among those of its model and class, which
            changes no AP and makes scores of differently calibrated models comparable.
    """
    images = np.array([f'{name}/{model}' for name in a.images.tolist() for model in ('a', 'b')])
    if isinstance(a, SegmentationEvidence):
        return _joined_segmentation(a, b, images)
    return _joined_instances(a, b, images, by_rank)


def swap_weights(swapped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of joined images for both models.

    Args:
        swapped: (N,), bool, which images the models exchange.

    Returns:
        (2 N,) each, int64: what the first model has after the exchange, and the second.
    """
    first = np.stack([~swapped, swapped], axis=1).reshape(-1).astype(np.int64)
    return first, 1 - first


def differing_images(a: Evidence, b: Evidence) -> np.ndarray:
    """Return the images of which two models' records differ, (N,), bool."""
    kinds = sorted(_kinds(a) & _kinds(b))
    ours, theirs = (_rows_by_image(evidence, kinds) for evidence in (a, b))
    return np.array([not np.array_equal(*pair) for pair in zip(ours, theirs, strict=True)], np.bool_)


def _kinds(evidence: Evidence) -> set[str]:
    """Kinds of overlap, `box` and `mask`, of a detector's records."""
    return set(evidence.matches) if isinstance(evidence, InstanceEvidence) else set()


def _rows_by_image(evidence: Evidence, kinds: Sequence[str]) -> list[np.ndarray]:
    """All that a figure depends on, by image, (rows, columns) each, in an order of its own."""
    if isinstance(evidence, SegmentationEvidence):
        image = evidence.image
        columns = [evidence.label, evidence.predicted, evidence.pixels]
    else:
        image = evidence.detection_image
        columns = [evidence.detection_class, evidence.detection_score]
        for matches in map(evidence.matches.get, kinds):
            columns += [*matches.hits.T, *matches.ignored.T]
    table = np.stack([column.astype(np.float64) for column in columns], axis=1)
    order = np.lexsort((*table.T, image))
    places = np.searchsorted(image[order], np.arange(1, len(evidence.images)))
    return np.split(table[order], places)


def _joined_segmentation(
    a: SegmentationEvidence, b: SegmentationEvidence, images: np.ndarray
) -> SegmentationEvidence:
    pairs = [(a.label, b.label), (a.predicted, b.predicted), (a.pixels, b.pixels)]
    label, predicted, pixels = (np.concatenate(pair) for pair in pairs)
    return SegmentationEvidence(
        images=images,
        classes=a.classes,
        image=_interleaved(a.image, b.image),
        label=label,
        predicted=predicted,
        pixels=pixels,
    )


def _joined_instances(
    a: InstanceEvidence, b: InstanceEvidence, images: np.ndarray, by_rank: bool
) -> InstanceEvidence:
    scores = [_ranks(each) if by_rank else each.detection_score for each in (a, b)]
    score = np.concatenate(scores)
    label = np.concatenate([a.detection_class, b.detection_class])
    image = _interleaved(a.detection_image, b.detection_image)
    order = np.lexsort((-score, image, label))
    return InstanceEvidence(
        images=images,
        classes=a.classes,
        detection_image=image[order],
        detection_class=label[order],
        detection_score=score[order],
        object_image=_interleaved(a.object_image, b.object_image),
        object_class=np.concatenate([a.object_class, b.object_class]),
        object_counts=np.concatenate([a.object_counts, b.object_counts]),
        matches={
            kind: _joined_matches(a.matches[kind], b.matches[kind], len(a.object_image), order)
            for kind in sorted(_kinds(a) & _kinds(b))
        },
    )


def _joined_matches(a: Matches, b: Matches, objects: int, order: np.ndarray) -> Matches:
    """Matches of both models in a new order; the second's objects follow the first's."""
    targets = np.where(b.targets < 0, b.targets, b.targets + objects)
    return Matches(
        hits=np.concatenate([a.hits, b.hits])[order],
        ignored=np.concatenate([a.ignored, b.ignored])[order],
        errors=np.concatenate([a.errors, b.errors])[order],
        targets=np.concatenate([a.targets, targets])[order],
    )


def _interleaved(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.concatenate([2 * first.astype(np.int64), 2 * second.astype(np.int64) + 1])


def _ranks(evidence: InstanceEvidence) -> np.ndarray:
    """Minus how many detections of the same class score higher, (D,), float; equal scores stay equal."""
    ranks = np.empty(len(evidence.detection_score))
    for number in np.unique(evidence.detection_class):
        chosen = evidence.detection_class == number
        falling = -evidence.detection_score[chosen]
        ranks[chosen] = -np.searchsorted(np.sort(falling), falling)
    return ranks


def balanced_pairs(a: Sequence[Evidence], b: Sequence[Evidence]) -> list[tuple[Evidence, Evidence]]:
    """Pair the runs of two models, each run of a model equally often."""
    return [(a[number % len(a)], b[number % len(b)]) for number in range(np.lcm(len(a), len(b)))]
