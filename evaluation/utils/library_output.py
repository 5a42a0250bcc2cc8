"""Silence library output, and survive log lines that cannot be written."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


def settle_log_faults(logger: logging.Logger) -> None:
    """Let a log file that cannot be written stop the run, and a terminal that has gone do no harm."""
    for handler in logger.handlers:
        is_file = isinstance(handler, logging.FileHandler)
        handler.handleError = _raise_again if is_file else _pass_over


def _raise_again(_: logging.LogRecord) -> None:
    # `logging` calls this while it handles the error.
    raise


def _pass_over(_: logging.LogRecord) -> None:
    """The file has the line."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out what pycocotools and the OpenMMLab libraries say while they load."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield
