"""Interface of per-image records, so that images can be resampled and swapped between models."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import TypeVar

import numpy as np

from evaluation.metrics.calibration import Confidences

# From image counts, (images,), int64, to figures in percent; NaN if undefined.
Measure = Callable[[np.ndarray], dict[str, float]]
Own = TypeVar('Own', bound='Evidence')


class Evidence:
    """Per-image records of an evaluation; subclasses are frozen dataclasses of arrays.

    Fields that default to None are left out of files without them, such as those of earlier versions.
    A task whose metrics are shares of images must implement `right_images`; any other task must
    implement `rows` and `joined`.

    Attributes:
        images: names or ids of all evaluated images, in ascending order.
        classes: names of the classes.
    """

    images: np.ndarray
    classes: tuple[str, ...]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays by name, as stored in a file."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: np.asarray(value) for name, value in values.items() if value is not None}

    @classmethod
    def from_arrays(cls: type[Own], arrays: Mapping[str, np.ndarray]) -> Own:
        """Restore records from their arrays.

        Raises:
            KeyError: an array is missing.
            ValueError: the array of class names is not one-dimensional.
        """
        values = {name: arrays[name] for name in stored_fields(cls, arrays)}
        return cls(**values | {'classes': names_of(arrays)})

    def tables(self) -> Mapping[str, Sequence[str]]:
        """Return the names of arrays that form a table, keyed by its first column; one row per image."""
        return {'images': [name for name in self.arrays() if name != 'classes']}

    def check(self) -> None:
        """Check that arrays are consistent; their types and ranges are valid already.

        Raises:
            ValueError: the arrays contradict each other.
        """

    def determines(self, metric: str) -> bool:
        """Return whether a metric of the task can be computed from the records."""
        return True

    def metrics_of(self, wanted: str) -> Measure:
        """Return the function that computes the named metric, possibly with related ones.

        Args:
            wanted: name of a metric, such as `box_AP50`, `mIoU` or `top1`.

        Raises:
            KeyError: the records do not determine this metric.
        """
        raise KeyError(wanted)

    def calibration(self) -> dict[str, Confidences]:
        """Return the confidences of predictions, by name of the error; empty if not stored."""
        return {}

    def right_images(self, metric: str) -> np.ndarray:
        """Return which images are correct for a metric that is a share of images, (N,), bool."""
        raise KeyError(metric)

    def rows(self: Own, other: Own) -> tuple[np.ndarray, Sequence[np.ndarray]]:
        """Return a table of everything that figures of both records depend on.

        Returns:
            Index into `images` of each row, (R,), and the columns, (R,) each.
        """
        raise NotImplementedError

    def joined(self: Own, other: Own, images: np.ndarray, by_rank: bool) -> Own:
        """Join the records of two models; see `statistics.randomization.joined`.

        Args:
            other: records of the same images. Image i becomes image 2 i for these records, and 2 i + 1
                for `other`.
            images: names of the joined images.
            by_rank: whether to replace scores by ranks.
        """
        raise NotImplementedError


def stored_fields(record: type, arrays: Mapping[str, np.ndarray], prefix: str = '') -> list[str]:
    """Return the names of the fields of a dataclass that are required or that a file has.

    Args:
        record: dataclass of arrays.
        arrays: arrays of the file, by name.
        prefix: start of the names in the file.
    """
    return [
        each.name for each in fields(record) if each.default is MISSING or prefix + each.name in arrays
    ]


def names_of(arrays: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Return the names of the classes.

    Raises:
        ValueError: the array of class names is not one-dimensional.
    """
    if arrays['classes'].ndim != 1:
        raise ValueError(f'classes has {arrays["classes"].ndim} axes')
    return tuple(arrays['classes'].tolist())


def interleaved(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the joined image indices of the rows of both models, rows of the first model first."""
    return np.concatenate([2 * first.astype(np.int64), 2 * second.astype(np.int64) + 1])


def image_names(paths: Sequence[str | None]) -> list[str]:
    """Return paths relative to their common folder, so that names do not depend on where the data is.

    Args:
        paths: paths of images.

    Raises:
        ValueError: a path is unknown or occurs twice.
    """
    if None in paths:
        raise ValueError('the path of an image is unknown')
    whole = [os.path.abspath(path) for path in paths]
    if len(set(whole)) < len(whole):
        raise ValueError('an image occurs twice')
    folder = os.path.commonpath([os.path.dirname(path) for path in whole]) if whole else ''
    return [os.path.relpath(path, folder).replace(os.sep, '/') for path in whole]


@dataclass
class MetricReport:
    """Figures of one evaluation.

    Attributes:
        images: number of evaluated images.
        metrics: figures in percent, by their names in papers; None if undefined.
        per_class: figures of each class in percent; None for classes that do not occur.
        evaluator: package that computed the figures; None for the suite itself.
        evidence: per-image records; None if they could not be collected.
    """

    images: int
    metrics: dict[str, float | None] = field(default_factory=dict)
    per_class: dict[str, dict[str, float | None]] = field(default_factory=dict)
    evaluator: str | None = None
    evidence: Evidence | None = None


def evidence_or_none(collect: Callable[[], Evidence]) -> Evidence | None:
    """Return the evidence of `collect`; if it fails, log a warning and return None."""
    try:
        return collect()
    except Exception as error:  # No failure here may lose the figures of a long training.
        # Tables read these records too, without torch.
        from mmengine.logging import print_log

        reason = f'{type(error).__name__}: {error}'
        print_log(f'result without evidence: {reason}', logger='current', level=logging.WARNING)
        return None
