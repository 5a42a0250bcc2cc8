"""Implementations of the COCO evaluation: interface, registry, and the one of pycocotools.

`fast_evaluator` needs an additional package, so it is imported only if it is used.
"""

import argparse
import contextlib
import importlib
import importlib.util
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from mmengine.config import Config, ConfigDict
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from evaluation.utils.errors import UserError, did_you_mean

DEFAULT_EVALUATOR = 'fast'
METRIC = 'InstanceMetric'


@dataclass(frozen=True)
class InstanceEvaluation:
    """Results for one kind of overlap, boxes or masks.

    Attributes:
        statistics: (12,), fractions, -1 without ground truth: AP, AP50, AP75, AP of small, medium and
            large objects, AR with 1, 10 and 100 detections per image, AR of small, medium and large
            objects.
        precision: (IoU thresholds 10, recalls 101, categories, areas 4, maximum detections 3),
            fractions, -1 without ground truth. Areas are all, small, medium, large; maximum detections
            are 1, 10, 100 per image and category.
        summary: the twelve statistics as lines of text.
    """

    statistics: np.ndarray
    precision: np.ndarray
    summary: list[str]


class InstanceEvaluator(Protocol):
    """Compare detections with the ground truth as pycocotools does."""

    def __call__(
        self,
        truth: COCO,
        detections: list[dict],
        images: Sequence[int | str],
        categories: Sequence[int | str],
        kind: str,
    ) -> InstanceEvaluation:
        """Evaluate.

        Args:
            truth: ground truth; may include other images, which are ignored.
            detections: detections in COCO results format; entries may be added to them.
            images: ids of the evaluated images.
            categories: ids of the categories, in the order of their axis in `precision`; others are
                ignored.
            kind: `bbox` or `segm`.
        """


@dataclass(frozen=True)
class Implementation:
    """Location and requirement of an implementation.

    Attributes:
        place: module and name of the evaluator, imported only if it is used.
        package: import name of the required package.
        distribution: name of this package on PyPI; `result.json` records its name and version.
    """

    place: tuple[str, str]
    package: str
    distribution: str


EVALUATORS = {
    'pycocotools': Implementation((__name__, 'evaluate_with_pycocotools'), 'pycocotools', 'pycocotools'),
    'fast': Implementation(
        ('evaluation.metrics.fast_evaluator', 'evaluate_fast'),
        'faster_coco_eval',
        'faster-coco-eval',
    ),
}


def check_evaluator(name: str) -> None:
    """Check that an evaluator exists and that its package is installed.

    Raises:
        UserError: the evaluator is unknown, or its package is not installed.
    """
    if name not in EVALUATORS:
        near = did_you_mean(str(name), EVALUATORS)
        raise UserError(f'unknown evaluator {name!r}; choose from {", ".join(EVALUATORS)}{near}')
    needed = EVALUATORS[name]
    if importlib.util.find_spec(needed.package) is None:
        raise UserError(
            f'the evaluator {name} needs the package {needed.distribution}: '
            f'pip install {needed.distribution}, or use --evaluator pycocotools'
        )


def load_evaluator(name: str) -> InstanceEvaluator:
    """Import an evaluator.

    Raises:
        UserError: the evaluator is unknown, or its package is not installed.
    """
    check_evaluator(name)
    module, attribute = EVALUATORS[name].place
    return getattr(importlib.import_module(module), attribute)


def add_evaluator_option(parser: argparse.ArgumentParser) -> None:
    """Add the option `--evaluator` of training and testing."""
    parser.add_argument(
        '--evaluator',
        metavar='{' + ','.join(EVALUATORS) + '}',
        help=f'evaluator for box and mask AP; default: the one in the config, else {DEFAULT_EVALUATOR}',
    )


def use_evaluator(cfg: Config, name: str | None) -> None:
    """Set the evaluator of AP, or keep the one in the config.

    Raises:
        UserError: the evaluator is unknown, its package is missing, or the config does not compute AP.
    """
    if name is not None:
        check_evaluator(name)
    metrics = list(_instance_metrics(cfg))
    if name is not None and not metrics:
        raise UserError(
            f'--evaluator {name} applies to detection, but {cfg.filename} has no {METRIC}; omit it'
        )
    for metric in metrics:
        if name is not None:
            metric.evaluator = name
        check_evaluator(metric.get('evaluator', DEFAULT_EVALUATOR))


def _instance_metrics(cfg: Config) -> Iterator[ConfigDict]:
    for place in ('val_evaluator', 'test_evaluator'):
        evaluators = cfg.get(place) or []
        for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
            if evaluator.type == METRIC:
                yield evaluator


def evaluate_with_pycocotools(
    truth: COCO,
    detections: list[dict],
    images: Sequence[int | str],
    categories: Sequence[int | str],
    kind: str,
) -> InstanceEvaluation:
    """Evaluate with pycocotools; see `InstanceEvaluator`."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        found = truth.loadRes(detections) if detections else no_detections(truth)
        evaluation = COCOeval(truth, found, kind)
        evaluation.params.imgIds = list(images)
        evaluation.params.catIds = list(categories)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # pycocotools sorts categories in ascending order.
    place = np.searchsorted(np.unique(categories), categories)
    return InstanceEvaluation(
        evaluation.stats,
        evaluation.eval['precision'][:, :, place],
        summary_lines(printed.getvalue().splitlines()),
    )


def summary_lines(printed: Sequence[str]) -> list[str]:
    """Return the printed lines that contain a figure."""
    return [line for line in printed if ' = ' in line]


def no_detections(truth: COCO) -> COCO:
    """Return a result without detections, which `COCO.loadRes` does not support."""
    empty = COCO()
    empty.dataset = {**truth.dataset, 'annotations': []}
    empty.createIndex()
    return empty
