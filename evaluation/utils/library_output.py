"""Silence library output, and handle failed log writes."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


def settle_log_faults(logger: logging.Logger) -> None:
    """Stop the run if a log file cannot be written; ignore a closed terminal."""
    for handler in logger.handlers:
        is_file = isinstance(handler, logging.FileHandler)
        handler.handleError = _raise_again if is_file else _pass_over


def _raise_again(_: logging.LogRecord) -> None:
    # `logging` calls this while it handles the error.
    raise


def _pass_over(_: logging.LogRecord) -> None:
    """Ignore the error: the line is in the log file."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what pycocotools and the OpenMMLab libraries print while they load."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield
