"""Errors that are the caller's to mend, and how a command reports them."""

import functools
import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input: the message is one line that says what is wrong and what to do."""


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Wrap a command's `main`: a `UserError` becomes one line on stderr and exit status 2.

    Any other exception keeps its traceback, since it is a defect of the suite.
    """

    @functools.wraps(main)
    def run() -> None:
        try:
            main()
        except UserError as error:
            print(f'error: {error}', file=sys.stderr)
            sys.exit(2)

    return run
