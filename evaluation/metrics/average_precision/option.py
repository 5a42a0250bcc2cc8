"""`--evaluator` of the commands."""

import argparse
from collections.abc import Iterator

from mmengine.config import Config, ConfigDict

from evaluation.metrics.average_precision.evaluators import (
    DEFAULT_EVALUATOR,
    EVALUATORS,
    check_evaluator,
)
from evaluation.utils.errors import UserError

METRIC = 'InstanceMetric'


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
