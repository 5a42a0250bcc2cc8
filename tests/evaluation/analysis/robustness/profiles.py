"""Synthetic results with distinct values."""

import math

from evaluation.analysis.robustness.conditions import CLEAN, CORRUPTIONS, Condition, Plan
from evaluation.analysis.robustness.result import ConditionResult, Profile

PLAN = Plan(
    attacks=['fgsm', 'pgd'],
    norm='linf',
    budgets=[1.0, 4.0],
    steps=10,
    corruptions=list(CORRUPTIONS),
    severities=[1, 3, 5],
    seed=0,
)


def profile(
    name='upernet_swin_tiny', task='segmentation', metrics=('mIoU', 'aAcc'), plan=PLAN, clean=60.0
):
    """Return a result: attacks cost 5 points per budget, corruptions 2 per severity plus their index."""

    def metrics_of(lost):
        return {metric: clean - lost - 10 * place for place, metric in enumerate(metrics)}

    results = [ConditionResult(Condition(CLEAN), metrics_of(0), 0.25)]
    for each in plan.attacked:
        results.append(ConditionResult(each, metrics_of(5 * each.level), 0.5 + each.level))
    for each in plan.corrupted:
        lost = 2 * each.level + CORRUPTIONS.index(each.name)
        results.append(ConditionResult(each, metrics_of(lost), None))
    facts = {
        'config': {'name': name, 'model': {'type': 'EncoderDecoder', 'loss': math.pi}},
        'checkpoint': {'file': 'iter_160000.pth'},
        'task': task,
        'images': {'count': 12, 'sha256': 'abc'},
        'batch': 4,
    }
    return Profile(facts, plan, 'cpu', results)
