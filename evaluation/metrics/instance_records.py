"""Per-image records of detectors: matches of detections to objects, and error types."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from evaluation.metrics.calibration import DETECTION_BINS, Confidences, confidences_of
from evaluation.metrics.coco_matching import AREAS, KINDS, OVERLAPS
from evaluation.metrics.records import Evidence, Measure, interleaved, stored_fields
from evaluation.metrics.resampled_precision import mean_of_present, precisions_by_class

# At an overlap of 0.5. The first two are not errors. Only files of earlier versions contain `ignored`,
# for detections that match a crowd; these now get an error type, as in TIDE.
ERRORS = (
    'right',
    'ignored',
    'classification',
    'localisation',
    'both',
    'duplicate',
    'background',
)
# Overlap thresholds that each statistic averages over, by area range.
STATISTICS: Mapping[str, Mapping[str, slice]] = {
    'all': {'AP': slice(None), 'AP50': slice(0, 1), 'AP75': slice(5, 6)},
    'small': {'APs': slice(None)},
    'medium': {'APm': slice(None)},
    'large': {'APl': slice(None)},
}


@dataclass(frozen=True)
class Matches:
    """Matches of D detections to G objects by one kind of overlap.

    Attributes:
        hits: (D, areas), uint16, bits of the overlap thresholds at which a detection matches an object
            of its class.
        ignored: (D, areas), uint16, bits of the thresholds at which a detection is neither a true nor
            a false positive.
        errors: (D,), uint8, index into `ERRORS` at an overlap of 0.5.
        targets: (D,), int32, object that a detection matches, or would match without its error; -1 for
            none.
        overlaps: (D,), float, overlap with the object that a detection finds if any overlap suffices, 0
            for none; None in files of earlier versions.
    """

    hits: np.ndarray
    ignored: np.ndarray
    errors: np.ndarray
    targets: np.ndarray
    overlaps: np.ndarray | None = None


@dataclass(frozen=True)
class InstanceEvidence(Evidence):
    """Detections and objects of an evaluation, without their shapes.

    Detections are sorted by class, image and descending score, with at most 100 per class and image.

    Attributes:
        images: ids of all evaluated images, in ascending order.
        classes: names of the classes.
        detection_image: (D,), int32, index into `images`.
        detection_class: (D,), int16, index into `classes`.
        detection_score: (D,), float.
        object_image: (G,), int32, index into `images`.
        object_class: (G,), int16, index into `classes`.
        object_counts: (G, areas), bool, whether an object counts in an area range.
        matches: matches by kind of overlap: `box` and, for a model with masks, `mask`.
    """

    images: np.ndarray
    classes: tuple[str, ...]
    detection_image: np.ndarray
    detection_class: np.ndarray
    detection_score: np.ndarray
    object_image: np.ndarray
    object_class: np.ndarray
    object_counts: np.ndarray
    matches: Mapping[str, Matches]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays by name; names of arrays of matches start with the kind of overlap."""
        arrays = super().arrays()
        del arrays['matches']
        for kind, matches in self.matches.items():
            for part in fields(Matches):
                if getattr(matches, part.name) is not None:
                    arrays[f'{kind}_{part.name}'] = getattr(matches, part.name)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> 'InstanceEvidence':
        """Restore records from their arrays.

        Raises:
            KeyError: an array is missing.
            ValueError: the array of class names is not one-dimensional.
        """
        matches = {
            name: Matches(
                **{part: arrays[f'{name}_{part}'] for part in stored_fields(Matches, arrays, f'{name}_')}
            )
            for name in KINDS.values()
            # A detector without masks has no mask arrays; having only some of them is an error.
            if name == 'box' or any(array.startswith(f'{name}_') for array in arrays)
        }
        return super().from_arrays({**arrays, 'matches': matches})

    def tables(self) -> dict[str, list[str]]:
        """Return the names of arrays that form a table, keyed by its first column."""
        objects = [name for name in self.arrays() if name.startswith('object')]
        return {
            'detection_image': [n for n in self.arrays() if n not in ('images', 'classes', *objects)],
            'object_image': objects,
        }

    def check(self) -> None:
        """Check that detections are sorted by class, and that no object is found twice.

        Raises:
            ValueError: detections are not sorted, or their matches are inconsistent.
        """
        if np.any(np.diff(self.detection_class.astype(np.int64)) < 0):
            raise ValueError('detections are not sorted by class')
        for kind, matches in self.matches.items():
            _check_errors(self, kind, matches)
            _check_hits(self, kind, matches)

    def determines(self, metric: str) -> bool:
        """Return whether there are matches by the metric's kind of overlap."""
        return metric.partition('_')[0] in self.matches

    def metrics_of(self, wanted: str) -> Measure:
        """Return the function that computes AP by one kind of overlap, for one area range.

        Raises:
            KeyError: there are no matches of this kind, or the metric is unknown.
        """
        kind, _, statistic = wanted.partition('_')
        area = {'APs': 'small', 'APm': 'medium', 'APl': 'large'}.get(statistic, 'all')
        if kind not in self.matches or statistic not in STATISTICS[area]:
            raise KeyError(wanted)
        return average_precision(self, kind, area)

    def calibration(self) -> dict[str, Confidences]:
        """Return the confidences by kind of overlap, for `box_LaECE` and `mask_LaECE`.

        LaECE (Oksuz et al., arXiv 2307.00934) compares scores with the overlap that
        detections reach, by class. As proposed by Kuzucu et al. (arXiv 2405.20459), any overlap finds an
        object, so that no threshold has to be chosen. Classes without objects are left out, and so are
        detections that match a crowd.
        """
        present = np.zeros(len(self.classes), np.bool_)
        present[self.object_class[self.object_counts[:, AREAS.index('all')]]] = True
        found = {}
        for kind, matches in self.matches.items():
            if matches.overlaps is not None:
                counts = ~counted_out(matches) & present[self.detection_class]
                columns = (self.detection_image, self.detection_class, self.detection_score)
                found[f'{kind}_LaECE'] = confidences_of(
                    *(each[counts] for each in (*columns, matches.overlaps)), DETECTION_BINS
                )
        return found

    def rows(self, other: 'InstanceEvidence') -> tuple[np.ndarray, list[np.ndarray]]:
        """Return classes, scores and matches of detections, for kinds of overlap that both have."""
        columns = [self.detection_class, self.detection_score]
        for kind in sorted(self.matches.keys() & other.matches.keys()):
            columns += [*self.matches[kind].hits.T, *self.matches[kind].ignored.T]
        return self.detection_image, columns

    def joined(self, other: 'InstanceEvidence', images: np.ndarray, by_rank: bool) -> 'InstanceEvidence':
        """Join the records of two models, for kinds of overlap that both have.

        Args:
            other: records of the second model, with the same images.
            images: names of the joined images.
            by_rank: whether to replace the score of a detection by its rank within its model and class.
        """
        score = np.concatenate(
            [_ranks(each) if by_rank else each.detection_score for each in (self, other)]
        )
        label = np.concatenate([self.detection_class, other.detection_class])
        image = interleaved(self.detection_image, other.detection_image)
        order = np.lexsort((-score, image, label))
        return InstanceEvidence(
            images=images,
            classes=self.classes,
            detection_image=image[order],
            detection_class=label[order],
            detection_score=score[order],
            object_image=interleaved(self.object_image, other.object_image),
            object_class=np.concatenate([self.object_class, other.object_class]),
            object_counts=np.concatenate([self.object_counts, other.object_counts]),
            matches={
                kind: _joined_matches(
                    self.matches[kind], other.matches[kind], len(self.object_image), order
                )
                for kind in sorted(self.matches.keys() & other.matches.keys())
            },
        )


def counted_out(matches: Matches) -> np.ndarray:
    """Return which detections do not count at an overlap of 0.5, since they match a crowd, (D,)."""
    return (matches.ignored[:, AREAS.index('all')] & 1).astype(bool)


def average_precision(evidence: InstanceEvidence, kind: str, area: str = 'all') -> Measure:
    """Return the function that computes AP; for all areas, also AP50 and AP75.

    Args:
        evidence: per-image records.
        kind: kind of overlap, `box` or `mask`.
        area: area range, one of `AREAS`.
    """
    matches, column = evidence.matches[kind], AREAS.index(area)
    counted = evidence.object_counts[:, column]
    by_class = precisions_by_class(
        (evidence.detection_class, evidence.detection_score, evidence.detection_image),
        matches.hits[:, column],
        matches.ignored[:, column],
        (evidence.object_class[counted], evidence.object_image[counted]),
        len(evidence.classes),
        len(OVERLAPS),
    )

    def evaluate(weights: np.ndarray) -> dict[str, float]:
        precisions = by_class(weights)
        return {
            f'{kind}_{name}': mean_of_present(precisions[:, overlaps])
            for name, overlaps in STATISTICS[area].items()
        }

    return evaluate


def _joined_matches(a: Matches, b: Matches, objects: int, order: np.ndarray) -> Matches:
    """Join and reorder the matches of both models; objects of the second follow those of the first."""
    targets = np.where(b.targets < 0, b.targets, b.targets + objects)
    return Matches(
        hits=np.concatenate([a.hits, b.hits])[order],
        ignored=np.concatenate([a.ignored, b.ignored])[order],
        errors=np.concatenate([a.errors, b.errors])[order],
        targets=np.concatenate([a.targets, targets])[order],
    )


def _ranks(evidence: InstanceEvidence) -> np.ndarray:
    """Return minus the number of detections of the same class with a higher score, (D,), float."""
    ranks = np.empty(len(evidence.detection_score))
    for number in np.unique(evidence.detection_class):
        chosen = evidence.detection_class == number
        falling = -evidence.detection_score[chosen]
        ranks[chosen] = -np.searchsorted(np.sort(falling), falling)
    return ranks


def _check_errors(evidence: InstanceEvidence, kind: str, matches: Matches) -> None:
    """Check that errors, hits and targets are consistent."""
    first = (matches.hits & ~matches.ignored)[:, AREAS.index('all')] & 1
    right = matches.errors == ERRORS.index('right')
    if np.any(right != first.astype(bool)):
        raise ValueError(f'{kind}_errors and {kind}_hits do not agree')
    meets = np.isin(
        matches.errors, [ERRORS.index(e) for e in ('right', 'classification', 'localisation')]
    )
    targets = matches.targets[meets]
    if np.any(targets < 0) or np.any(evidence.object_image[targets] != evidence.detection_image[meets]):
        raise ValueError(f'{kind}_targets are not in the image of the detection')
    found = matches.targets[right]
    is_own = evidence.object_class[found] == evidence.detection_class[right]
    counts = evidence.object_counts[found, AREAS.index('all')]
    if not np.all(is_own & counts) or len(np.unique(found)) < len(found):
        raise ValueError(f'{kind}_targets of correct detections are repeated or are not valid objects')


def _check_hits(evidence: InstanceEvidence, kind: str, matches: Matches) -> None:
    """Check that, for each class and image, no more objects are found than there are."""
    classes = len(evidence.classes)
    pairs = np.concatenate(
        [
            evidence.object_image.astype(np.int64) * classes + evidence.object_class,
            evidence.detection_image.astype(np.int64) * classes + evidence.detection_class,
        ]
    )
    known, places = np.unique(pairs, return_inverse=True)
    objects, detections = np.split(places, [len(evidence.object_image)])
    right = matches.hits & ~matches.ignored
    for area in range(len(AREAS)):
        most = np.bincount(objects[evidence.object_counts[:, area]], minlength=len(known))
        for threshold in range(len(OVERLAPS)):
            hits = (right[:, area] >> threshold & 1).astype(bool)
            if np.any(np.bincount(detections[hits], minlength=len(known)) > most):
                raise ValueError(f'{kind}_hits are more than there are objects')
