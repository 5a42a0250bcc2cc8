"""User errors, how commands report them, and warnings; silence for libraries."""

import argparse
import contextlib
import difflib
import functools
import gc
import io
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator

from evaluation.utils.interruption import STOPPING, Interrupted, stopping_signals
from evaluation.utils.process_groups import (
    exit_without_finalization,
    process_count,
    process_rank,
    speaks_first,
)
from evaluation.utils.process_memory import end_start_up

BAD_INPUT = 2
# Messages of gloo and NCCL.
LOST_PARTNER = re.compile('(closed|reset) by peer|remote process exited')
# Time for the first process to report an error that all share, and for the launcher to end the others.
SECONDS_FOR_THE_FIRST = 5.0


class UserError(Exception):
    """Bad input. The message is one line: what is wrong and what to do."""


class CommandLine(argparse.ArgumentParser):
    """A parser that raises `UserError` and keeps the line breaks of the description."""

    def __init__(self, description: str) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def parse_args(self, *arguments: object, **options: object) -> argparse.Namespace:
        """Parse the command line, and end the start-up phase: most imports are done by now."""
        parsed = super().parse_args(*arguments, **options)
        end_start_up()
        return parsed

    def error(self, message: str) -> None:
        """Reject the command line.

        Raises:
            UserError: always.
        """
        raise UserError(f'{message}; --help lists the options')


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Wrap the `main` of a command: a `UserError` becomes one line on stderr and exit status 2.

    Ctrl-C and SIGTERM become one line and the usual exit statuses of shells, 130 and 143. Any other
    exception is a bug of the suite and keeps its traceback. Only one of several processes prints.
    """

    @functools.wraps(main)
    @exit_without_finalization()
    def run() -> None:
        # Imports take a fifth less time. The command-line parser turns collection on again.
        gc.disable()
        ending: BaseException | None = None
        with stopping_signals(main.__code__.co_filename) as received:
            try:
                main()
            except BaseException as error:
                if received.signal is None and not isinstance(error, UserError):
                    if is_lost_partner(error):
                        _wait_for_the_launcher()
                    raise
                ending = error
        if received.signal is not None:
            if speaks_first():
                advice = f': {ending}' if isinstance(ending, Interrupted) else ''
                print(f'interrupted{advice}', file=sys.stderr)
            sys.exit(128 + received.signal)
        if ending is not None:
            _say_error(str(ending))
            sys.exit(BAD_INPUT)

    return run


def _say_error(line: str) -> None:
    if speaks_first():
        print(f'error: {line}', file=sys.stderr)
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    time.sleep(SECONDS_FOR_THE_FIRST)
    print(f'error: process {process_rank()} of {process_count()}: {line}', file=sys.stderr)


def is_lost_partner(error: BaseException) -> bool:
    """Return whether an error means that another process of the group has ended."""
    return process_count() > 1 and LOST_PARTNER.search(str(error)) is not None


def _wait_for_the_launcher() -> None:
    """Wait for the launcher, which knows which process failed first, to end this one silently."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_DFL)
    time.sleep(2 * SECONDS_FOR_THE_FIRST)


def warn(message: str) -> None:
    """Print a warning on stderr, on the first process only."""
    if process_rank() == 0:
        print(f'warning: {message}', file=sys.stderr)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what pycocotools and the OpenMMLab libraries print while they load."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


def did_you_mean(name: str, known: Iterable[str], count: int = 1) -> str:
    """Return `; did you mean ...?` with the known names nearest to a misspelled one, or ''."""
    by_lower_case = {each.lower(): each for each in sorted(known)}
    near = difflib.get_close_matches(name.lower(), by_lower_case, count)
    return f'; did you mean {" or ".join(by_lower_case[each] for each in near)}?' if near else ''
