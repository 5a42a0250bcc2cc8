"""What per-image records of every kind have, so that images can be resampled and exchanged."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TypeVar

import numpy as np

# From how often each image counts, (images,), int64, to figures in percent, NaN where undefined.
Measure = Callable[[np.ndarray], dict[str, float]]
Own = TypeVar('Own', bound='Evidence')


class Evidence:
    """What each image contributed to an evaluation; subclasses are frozen dataclasses of arrays.

    A task whose metrics are shares of images needs `right_images`, any other `rows` and `joined`.

    Attributes:
        images: names or ids of all images that were looked at, in ascending order.
        classes: names of the classes.
    """

    images: np.ndarray
    classes: tuple[str, ...]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays by name, as a file holds them."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_arrays(cls: type[Own], arrays: Mapping[str, np.ndarray]) -> Own:
        """Restore records from their arrays.

        Raises:
            KeyError: an array is missing.
            ValueError: the classes are not a list.
        """
        values = {field.name: arrays[field.name] for field in fields(cls)}
        return cls(**values | {'classes': names_of(arrays)})

    def tables(self) -> Mapping[str, Sequence[str]]:
        """Return which arrays are columns of a table, by its first column; here a row an image."""
        return {'images': [name for name in self.arrays() if name != 'classes']}

    def check(self) -> None:
        """Check that arrays of valid types and ranges agree with each other.

        Raises:
            ValueError: they do not.
        """

    def determines(self, metric: str) -> bool:
        """Return whether a metric of the task can be computed."""
        return True

    def metrics_of(self, wanted: str) -> Measure:
        """Return the function that computes what the named metric belongs to.

        Args:
            wanted: name of a metric, such as `box_AP50`, `mIoU` or `top1`.

        Raises:
            KeyError: the records do not determine such a metric.
        """
        raise KeyError(wanted)

    def right_images(self, metric: str) -> np.ndarray:
        """Return the images that count as right for a metric that is a share of images, (N,), bool."""
        raise KeyError(metric)

    def rows(self: Own, other: Own) -> tuple[np.ndarray, Sequence[np.ndarray]]:
        """Return all that a figure of both records depends on, as a table.

        Returns:
            Index into `images` of each row, (R,), and the columns, (R,) each.
        """
        raise NotImplementedError

    def joined(self: Own, other: Own, images: np.ndarray, by_rank: bool) -> Own:
        """Put the records of two models into one; see `statistics.randomization.joined`.

        Args:
            other: of the same images; image i becomes image 2 i + 1, and 2 i of these records.
            images: names of the joined images.
            by_rank: whether scores are replaced by their ranks.
        """
        raise NotImplementedError


def names_of(arrays: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Read the names of the classes.

    Raises:
        ValueError: they are not a list.
    """
    if arrays['classes'].ndim != 1:
        raise ValueError(f'classes has {arrays["classes"].ndim} axes')
    return tuple(arrays['classes'].tolist())


def interleaved(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the joined image numbers of rows of both models, the first model's rows first."""
    return np.concatenate([2 * first.astype(np.int64), 2 * second.astype(np.int64) + 1])


def image_names(paths: Sequence[str | None]) -> list[str]:
    """Paths without the folders that all have in common, so that it does not matter where data lie.

    Args:
        paths: of images.

    Raises:
        ValueError: one is not known, or one occurs twice.
    """
    if None in paths:
        raise ValueError('the path of an image is not known')
    whole = [os.path.abspath(path) for path in paths]
    if len(set(whole)) < len(whole):
        raise ValueError('an image occurs twice')
    folder = os.path.commonpath([os.path.dirname(path) for path in whole]) if whole else ''
    return [os.path.relpath(path, folder).replace(os.sep, '/') for path in whole]


@dataclass
class MetricReport:
    """Figures of one evaluation.

    Attributes:
        images: how many were evaluated.
        metrics: by the names that papers use, in percent; None where undefined.
        per_class: the same by class, in percent; None where a class does not occur.
        evaluator: distribution that computed them; None where the suite did.
        evidence: what each image contributed; None where it could not be told.
    """

    images: int
    metrics: dict[str, float | None] = field(default_factory=dict)
    per_class: dict[str, dict[str, float | None]] = field(default_factory=dict)
    evaluator: str | None = None
    evidence: Evidence | None = None


def evidence_or_none(collect: Callable[[], Evidence]) -> Evidence | None:
    """What `collect` returns; None, and a warning, where evidence cannot be told."""
    try:
        return collect()
    except Exception as error:  # Whatever it is, the figures of a long training must not be lost for it.
        # Tables, which do without torch, read these records, too.
        from mmengine.logging import print_log

        reason = f'{type(error).__name__}: {error}'
        print_log(f'result without evidence: {reason}', logger='current', level=logging.WARNING)
        return None
