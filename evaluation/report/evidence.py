"""What the images of evaluations tell beside their figures: intervals, differences, kinds of errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from tqdm import tqdm

from evaluation.report.differences import differences
from evaluation.report.problems import Problems
from evaluation.report.runs import Run
from evaluation.report.training_curves import significant
from evaluation.statistics.error_analysis import error_costs
from evaluation.statistics.loading import load_evidence
from evaluation.statistics.metrics import each_image_once
from evaluation.statistics.uncertainty import Uncertainty, uncertainties
from evaluation.tasks import TASKS

SEED = 0


@dataclass
class Findings:
    """What evidence tells, by keys of runs; runs without are left out.

    Attributes:
        intervals: low and high by metric, by run.
        errors: points of AP50 that each kind of error costs, by kind of overlap, by run.
        differences: of pairs of models that were tested on the same images, the better one first.
    """

    intervals: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    errors: dict[str, dict[str, dict[str, float | None]]] = field(default_factory=dict)
    differences: list[dict] = field(default_factory=list)


def weigh(runs: Sequence[Run], resamples: int, problems: Problems) -> Findings:
    """Look at the evidence of all selected runs that have any.

    Args:
        runs: by group.
        resamples: how many to draw; 0 for no intervals.
        problems: for evidence that is missing or damaged.
    """
    found, drawn = Findings(), {}
    chosen = [run for run in runs if run.is_selected and run.result.evidence is not None]
    for run in tqdm(chosen, desc='evidence', unit='run', disable=None if chosen else True):
        with problems.leaving_out(run.result.evidence.path):
            errors = _errors(run)
            if resamples:
                drawn[run.key] = uncertainties([run.result], resamples, SEED)[run.result.path]
                found.intervals[run.key] = _intervals(drawn[run.key])
            if errors:
                found.errors[run.key] = errors
    for _, members in groupby(chosen, key=lambda run: run.group):
        known = [run for run in members if run.key in drawn]
        found.differences += differences(known, drawn, resamples, SEED)
    return found


def _intervals(drawn: Uncertainty) -> dict[str, list[float]]:
    return {
        metric: [significant(each.low), significant(each.high)]
        for metric, each in drawn.intervals.items()
        if math.isfinite(each.low)
    }


def _errors(run: Run) -> dict[str, dict[str, float | None]]:
    """Return what errors cost a detector; nothing of other models."""
    overlaps = TASKS[run.result.task].overlaps
    if not overlaps:
        return {}
    evidence = load_evidence(run.result)
    once = each_image_once(evidence)
    return {
        kind: {
            name: float(value) if math.isfinite(value) else None
            for name, value in error_costs(evidence, kind)(once).items()
        }
        for kind in overlaps
        if kind in evidence.matches
    }
