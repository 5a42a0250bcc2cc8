"""Stage `analyses`: receptive field, invariance and robustness on the device and on the CPU."""

import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from evaluation.engine.checkpoints import last_checkpoint
from evaluation.gpu_check.checks import Check, FailedCheckError, Settings, SkippedCheckError
from evaluation.gpu_check.suite_commands import run, scenes
from evaluation.gpu_check.trainings import MODELS, arguments_of, folder_of

OPTIONS = {
    'erf': ('--size', '128', '--limit', '4', '--targets', 'stage3'),
    'invariance': ('--limit', '4', '--steps', '3'),
    'robustness': ('--limit', '4', '--budgets', '1', '--corruptions', 'none'),
}
# Largest difference of a figure, relative to it, or to 1 if it is smaller. A rank or a threshold may
# flip one prediction of these few images.
BOUND = 0.05


def checks(settings: Settings) -> list[Check]:
    """Return the checks of the stage."""
    return [Check(kind, partial(compare, settings, kind)) for kind in OPTIONS]


def compare(settings: Settings, kind: str) -> dict[str, object]:
    """Run an analysis on the device and on the CPU, and compare all figures of the results.

    Raises:
        FailedCheckError: a figure differs.
        SkippedCheckError: there are no weights, or the device is the CPU.
    """
    if not settings.is_gpu:
        raise SkippedCheckError('compares a GPU with the CPU')
    task, mixer = MODELS[0]
    checkpoint = last_checkpoint(folder_of(settings, task, mixer, 'fp32'))
    if checkpoint is None:
        raise SkippedCheckError('needs the weights of the stage `training`')
    config, *rest = arguments_of(settings, task, mixer)
    if kind == 'erf':
        images = scenes(settings, task) / 'val2017'
        # Receptive fields need no data set.
        place = rest.index('--data-root')
        rest = [*rest[:place], *rest[place + 2 :], '--images', str(images)]
    found = []
    for device in (settings.device, 'cpu'):
        folder = folder_of(settings, task, mixer, f'{kind}_{device.partition(":")[0]}')
        command = [f'tools/analyze_{kind}.py', config, str(checkpoint), *rest, *OPTIONS[kind]]
        command += ['--device', device, '--work-dir', str(folder)]
        run(command, folder / f'{kind}.log', settings)
        found.append(dict(figures_of(folder / 'analysis' / f'{kind}.json')))
    return compared(*found)


def figures_of(file: Path) -> Iterator[tuple[str, float]]:
    """Yield the finite fractions of a result by their place; whole numbers are settings."""

    def walk(value: object, place: str) -> Iterator[tuple[str, float]]:
        if isinstance(value, dict):
            for key, each in value.items():
                yield from walk(each, f'{place}.{key}')
        elif isinstance(value, list):
            for number, each in enumerate(value):
                yield from walk(each, f'{place}.{number}')
        elif isinstance(value, float) and math.isfinite(value):
            yield place, value

    return walk(json.loads(file.read_text(encoding='utf-8')), '')


def compared(there: dict[str, float], here: dict[str, float]) -> dict[str, object]:
    """Return the number of figures and the largest difference.

    Raises:
        FailedCheckError: figures are missing or differ.
    """
    if there.keys() != here.keys() or not here:
        raise FailedCheckError(f'{len(there)} figures on the device, {len(here)} on the CPU')
    errors = {name: abs(there[name] - here[name]) / max(1.0, abs(here[name])) for name in here}
    worst = max(errors, key=errors.get)
    if errors[worst] > BOUND:
        raise FailedCheckError(
            f'{worst}: {there[worst]:.4g} on the device, {here[worst]:.4g} on the CPU'
        )
    return {'figures': len(errors), 'worst': worst, 'error': errors[worst], 'bound': BOUND}
