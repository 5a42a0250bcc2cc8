"""Names of two models for people."""

import os
from collections.abc import Sequence

from evaluation.results.result import Result


def distinct_names(a: Sequence[Result], b: Sequence[Result]) -> tuple[str, str]:
    """Names of two models, with as much of start, augmentation, seeds and place as tells them apart.

    Args:
        a: results of the first model, of one experiment, a seed each.
        b: results of the second.
    """
    plain = [runs[0].contestant.name for runs in (a, b)]
    if plain[0] == plain[1] and a[0].config != b[0].config:
        plain = [runs[0].config for runs in (a, b)]
    details = [_details(runs, singles=len(a) == len(b) == 1) for runs in (a, b)]
    differing = [index for index in range(len(details[0])) if details[0][index] != details[1][index]]
    one, other = (
        _with_details(name, [known[index] for index in differing])
        for name, known in zip(plain, details, strict=True)
    )
    if one != other:
        return one, other
    return _with_details(one, [_place(a)]), _with_details(other, [_place(b)])


def _details(runs: Sequence[Result], singles: bool) -> tuple[str, ...]:
    """What all runs of a model share, and its seed or how many it has."""
    first = runs[0]
    seed = 'unknown seed' if first.seed is None else f'seed {first.seed}'
    return (
        first.start or 'unknown start',
        'with TTA' if first.test_time_augmentation else 'without TTA',
        seed if singles else f'{len(runs)} seed{"s" if len(runs) > 1 else ""}',
    )


def _place(runs: Sequence[Result]) -> str:
    """The file of a single run, the folder of several."""
    return os.path.commonpath([run.path for run in runs]) or '.'


def _with_details(name: str, details: Sequence[str]) -> str:
    return f'{name} ({", ".join(details)})' if details else name
