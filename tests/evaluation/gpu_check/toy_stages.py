"""Stages for tests: one that passes, fails and skips, one that never ends, and one that dies."""

import os
import time

from evaluation.gpu_check.checks import Check, FailedCheckError, SkippedCheckError


def fail():
    raise FailedCheckError('two is not three')


def skip():
    raise SkippedCheckError('no such device')


def crash():
    raise ZeroDivisionError


def divide_by_zero(dtype):
    """Stand in for a call of an operator."""
    crash()


def checks(settings):
    found = [Check('good', lambda: {'two': 2}), Check('bad', fail), Check('absent', skip)]
    return [*found, Check('broken', crash), *ENDS.get(os.environ.get('TOY_END'), [])]


ENDS = {
    'sleep': [Check('asleep', lambda: time.sleep(600))],
    'die': [Check('dead', lambda: os._exit(7))],
}
