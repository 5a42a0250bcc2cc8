"""What becomes of a line of the log that cannot be written; Python would print a traceback for each."""

import logging


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
