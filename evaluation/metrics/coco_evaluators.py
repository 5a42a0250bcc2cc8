"""Implementations of COCO's evaluation: what they take and give, their names, and pycocotools' own.

`fast_evaluator` needs a package of its own, so it is imported only where it is wanted.
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
    """What is found of one kind of overlap, boxes' or masks'.

    Attributes:
        statistics: (12,), fractions, -1 where there is no ground truth: AP, AP50, AP75, AP of small,
            medium and large objects, AR with 1, 10 and 100 detections an image, AR of small, medium
            and large objects.
        precision: (IoU thresholds 10, recalls 101, categories, areas 4, most detections 3), fractions,
            -1 where there is no ground truth. Areas are all, small, medium, large; most detections
            1, 10, 100 an image and category.
        summary: the twelve statistics as lines of text.
    """

    statistics: np.ndarray
    precision: np.ndarray
    summary: list[str]


class InstanceEvaluator(Protocol):
    """Compares detections with the truth as COCO's own evaluation does."""

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
            truth: ground truth of these images, and maybe of others, which are left out.
            detections: in COCO's results format; entries may be added to them.
            images: ids of the images that were looked at.
            categories: ids of the categories, in the order of the axis of `precision`; others are left
                out.
            kind: `bbox` or `segm`.
        """


@dataclass(frozen=True)
class Implementation:
    """Where an implementation is, and what it needs.

    Attributes:
        place: module and name of the evaluator, imported only when it is wanted.
        package: that it needs, as it is imported.
        distribution: the same, as it is installed; `result.json` has its name and version.
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
    """Check that there is an evaluator of that name, and that its package is installed.

    Raises:
        UserError: there is none, or it is not.
    """
    if name not in EVALUATORS:
        near = did_you_mean(str(name), EVALUATORS)
        raise UserError(f'unknown evaluator {name!r}; known are {", ".join(EVALUATORS)}{near}')
    needed = EVALUATORS[name]
    if importlib.util.find_spec(needed.package) is None:
        raise UserError(
            f'the evaluator {name} needs the package {needed.distribution}: '
            f'pip install {needed.distribution}, or give --evaluator pycocotools'
        )


def load_evaluator(name: str) -> InstanceEvaluator:
    """Import an evaluator.

    Raises:
        UserError: there is none of that name, or its package is not installed.
    """
    check_evaluator(name)
    module, attribute = EVALUATORS[name].place
    return getattr(importlib.import_module(module), attribute)


def add_evaluator_option(parser: argparse.ArgumentParser) -> None:
    """The option `--evaluator`, as training and testing have it."""
    parser.add_argument(
        '--evaluator',
        metavar='{' + ','.join(EVALUATORS) + '}',
        help=f"who computes box and mask AP; default: the config's choice, else {DEFAULT_EVALUATOR}",
    )


def use_evaluator(cfg: Config, name: str | None) -> None:
    """Let the named evaluator compute AP, or leave the choice to the config.

    Raises:
        UserError: there is no such evaluator, its package is missing, or the config measures no AP.
    """
    if name is not None:
        check_evaluator(name)
    metrics = list(_instance_metrics(cfg))
    if name is not None and not metrics:
        raise UserError(
            f'--evaluator {name} is of detection, and {cfg.filename} has no {METRIC}; leave it out'
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
    """Evaluate as `InstanceEvaluator` says."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        found = truth.loadRes(detections) if detections else no_detections(truth)
        evaluation = COCOeval(truth, found, kind)
        evaluation.params.imgIds = list(images)
        evaluation.params.catIds = list(categories)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # Its categories are in ascending order.
    place = np.searchsorted(np.unique(categories), categories)
    return InstanceEvaluation(
        evaluation.stats,
        evaluation.eval['precision'][:, :, place],
        summary_lines(printed.getvalue().splitlines()),
    )


def summary_lines(printed: Sequence[str]) -> list[str]:
    """Those of the printed lines that state a figure."""
    return [line for line in printed if ' = ' in line]


def no_detections(truth: COCO) -> COCO:
    """A result without a single detection, which `COCO.loadRes` does not accept."""
    empty = COCO()
    empty.dataset = {**truth.dataset, 'annotations': []}
    empty.createIndex()
    return empty
