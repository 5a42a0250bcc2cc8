"""Tests in distribution, each with the tests of the same weights under distribution shift."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.results.result import Result
from evaluation.results.selection import in_order, select
from evaluation.results.shift_suites import SUITES, ShiftSuite
from evaluation.utils.errors import warn


@dataclass(frozen=True)
class ShiftedRun:
    """A test in distribution and the tests on the domains of a suite, from one command.

    Attributes:
        suite: the suite.
        inside: result in distribution.
        domains: result of each domain, by name, in the order of the suite.
    """

    suite: ShiftSuite
    inside: Result
    domains: Mapping[str, Result]

    @property
    def mean(self) -> float | None:
        """Mean figure over the domains, in percent; None if one is undefined."""
        values = [result.metrics.get(self.suite.metric) for result in self.domains.values()]
        return None if None in values else statistics.fmean(values)

    @property
    def effective_robustness(self) -> float | None:
        """Points above the figure that is expected under shift; None if undefined."""
        mean, inside = self.mean, self.inside.metrics.get(self.suite.metric)
        return None if None in (mean, inside) else self.suite.effective_robustness(mean, inside)


def in_distribution(results: Sequence[Result]) -> list[Result]:
    """Return the results in distribution; all results if each is of a domain."""
    return [result for result in results if result.domain is None] or list(results)


def shifted_runs(
    results: Sequence[Result],
    every: bool = False,
    on_problem: Callable[[str], None] = warn,
) -> list[ShiftedRun]:
    """Return the tests under shift, in the order of a table's rows; none without one in distribution.

    Args:
        results: results in distribution and of domains.
        every: whether to keep all tests of the same setup and seed, instead of the furthest in training
            and newest.
        on_problem: called with a message for each test that is left out, since it is incomplete.
    """
    inside = {_folder(result): result for result in results if result.domain is None}
    found: dict[tuple, dict[str, Result]] = {}
    for result in results:
        if inside and result.domain:
            # <run>/<suite>/<domain>/result.json
            run = _folder(result).parent.parent
            found.setdefault((run, result.domain.suite), {})[result.domain.name] = result
    runs = []
    for (run, key), domains in found.items():
        if problem := _problem(run, inside.get(run), key, domains):
            on_problem(f'{problem}; test again with --shift')
        else:
            suite = SUITES[key]
            runs.append(ShiftedRun(suite, inside[run], {name: domains[name] for name in suite.domains}))
    return [each for suite in SUITES.values() for each in _chosen(runs, suite, every)]


def _folder(result: Result) -> Path:
    return result.path.resolve().parent


def _problem(run: Path, inside: Result | None, key: str, domains: Mapping[str, Result]) -> str | None:
    """Return why a test under shift cannot be shown; None if it can.

    Args:
        run: folder of the test.
        inside: its result in distribution; None if it is missing.
        key: key of the suite.
        domains: results of domains by name.
    """
    if key not in SUITES:
        return f'{run / key}: unknown suite {key!r}; this version knows {", ".join(SUITES)}'
    if missing := [name for name in SUITES[key].domains if name not in domains]:
        return f'{run / key} lacks the result of {", ".join(missing)}'
    if inside is None:
        return f'{run / key} lacks the result in distribution, {run / "result.json"}'
    for result in domains.values():
        if result.weights_sha256 != inside.weights_sha256:
            return f'{result.path} and {inside.path} are of different weights'
    return None


def _chosen(runs: Iterable[ShiftedRun], suite: ShiftSuite, every: bool) -> list[ShiftedRun]:
    own = {run.inside.path: run for run in runs if run.suite == suite}
    rows = in_order(select([run.inside for run in own.values()], every))
    return [own[row.path] for row in rows]
