"""What fault tests share: how many trials they do, and where they report how many were survived."""

from collections.abc import Callable

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--full', action='store_true', help='do every trial of the fault tests')


@pytest.fixture(scope='session')
def full(request: pytest.FixtureRequest) -> bool:
    """Whether to do every trial, or the few that the test-suite has time for."""
    # Unknown where pytest was not started on this folder.
    return request.config.getoption('--full', default=False)


@pytest.fixture(scope='session')
def tally() -> Callable[[str, int, int, str], None]:
    """Report of a fault how many trials there were, how many were survived, and what was lost."""

    def report(name: str, tried: int, survived: int, lost: str) -> None:
        print(f'{name}: {survived} of {tried} survived; lost: {lost}')

    return report
