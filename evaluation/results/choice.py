"""The options of commands by which some results are chosen among others."""

import argparse
from collections.abc import Sequence

from evaluation.results.result import Result
from evaluation.tasks import TASKS, find_task
from evaluation.utils.errors import UserError, did_you_mean


def add_choice(parser: argparse.ArgumentParser, when: str) -> None:
    """Add `--task` and `--recipe`.

    Args:
        parser: of a command that reads results.
        when: they are needed, or what happens without them.
    """
    parser.add_argument(
        '--task', type=_task_key, choices=TASKS, help=f'results of this task alone; {when}'
    )
    parser.add_argument(
        '--recipe', metavar='NAME', help='results of this recipe alone, such as mask_rcnn_coco_1x'
    )


def chosen(
    results: Sequence[Result], task: str | None, recipe: str | None, where: str = ''
) -> list[Result]:
    """Return the results of a task and a recipe, at least one.

    Args:
        results: at least one.
        task: its key; None for every task.
        recipe: its name; None for every recipe.
        where: the results are, for the message.

    Raises:
        UserError: none is left.
    """
    of_task = [result for result in results if task in (None, result.task)]
    if not of_task:
        known = ', '.join(sorted({result.task for result in results}))
        raise UserError(f'no result of {task}{where}; found only {known}')
    found = [result for result in of_task if recipe in (None, result.recipe.name)]
    if not found:
        known = sorted({result.recipe.name for result in of_task})
        near = did_you_mean(recipe, known)
        raise UserError(f'no result of {recipe}{where}{near or "; found only " + ", ".join(known)}')
    return found


def _task_key(text: str) -> str:
    """The key of a task, of which earlier versions had others; an unknown one is refused later."""
    task = find_task(text)
    return task.key if task else text
