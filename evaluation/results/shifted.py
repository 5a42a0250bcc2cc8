"""Tests in distribution, each with the tests of the same weights under distribution shift."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from evaluation.results.result import Result
from evaluation.results.selection import in_order, select
from evaluation.results.shift_suites import SUITES, ShiftSuite
from evaluation.utils.errors import UserError


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


def shifted_runs(results: Sequence[Result], every: bool = False) -> list[ShiftedRun]:
    """Return the tests under shift, in the order of a table's rows.

    Args:
        results: results in distribution and of domains.
        every: whether to keep all tests of the same setup and seed, instead of the furthest in training
            and newest.

    Raises:
        UserError: a test under shift lacks its result in distribution, or a domain.
    """
    inside = {result.path.parent: result for result in results if result.domain is None}
    shifted = [result for result in results if result.domain]
    if not inside:
        return []
    found: dict[tuple, dict[str, Result]] = {}
    for result in shifted:
        # <run>/<suite>/<domain>/result.json
        run = result.path.parents[2]
        if run not in inside:
            raise UserError(
                f'{result.path} is a test under shift, but {run / "result.json"} is missing; keep the '
                'folder of the test whole, or test again with --shift'
            )
        found.setdefault((run, result.domain.suite), {})[result.domain.name] = result
    runs = [_run(inside[run], key, domains) for (run, key), domains in found.items()]
    return [each for suite in SUITES.values() for each in _chosen(runs, suite, every)]


def _run(inside: Result, key: str, domains: Mapping[str, Result]) -> ShiftedRun:
    """Return a test under shift, with its domains in order.

    Raises:
        UserError: the suite is unknown, a domain is missing, or its weights differ.
    """
    place = inside.path.parent
    if key not in SUITES:
        raise UserError(f'{place / key}: unknown suite {key!r}; this version knows {", ".join(SUITES)}')
    suite = SUITES[key]
    if missing := [name for name in suite.domains if name not in domains]:
        raise UserError(
            f'{place / key} lacks the result of {", ".join(missing)}; test again with --shift'
        )
    ordered = {name: domains[name] for name in suite.domains}
    for result in ordered.values():
        if result.weights_sha256 != inside.weights_sha256:
            raise UserError(
                f'{result.path} and {inside.path} are of different weights; test again with --shift'
            )
    return ShiftedRun(suite, inside, ordered)


def _chosen(runs: Iterable[ShiftedRun], suite: ShiftSuite, every: bool) -> list[ShiftedRun]:
    own = {run.inside.path: run for run in runs if run.suite == suite}
    rows = in_order(select([run.inside for run in own.values()], every))
    return [own[row.path] for row in rows]
