"""The implementations of COCO's evaluation by name."""

import importlib
import importlib.util
from dataclasses import dataclass

from evaluation.metrics.average_precision.evaluation import InstanceEvaluator
from evaluation.utils.errors import UserError, did_you_mean

DEFAULT_EVALUATOR = 'fast'


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


_PACKAGE = __name__.rpartition('.')[0]
EVALUATORS = {
    'pycocotools': Implementation(
        (f'{_PACKAGE}.pycocotools_evaluator', 'evaluate_with_pycocotools'), 'pycocotools', 'pycocotools'
    ),
    'fast': Implementation(
        (f'{_PACKAGE}.fast_evaluator', 'evaluate_fast'), 'faster_coco_eval', 'faster-coco-eval'
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
