"""Stage `training`: short trainings with every option that depends on the device.

Detectors and segmentors at the tiny scale, at the sizes of the recipes, on generated scenes.
"""

import math
import statistics
from functools import partial
from pathlib import Path

import torch

from backbones.checkpoint import read_checkpoint, weights_of
from evaluation.engine.checkpoints import last_checkpoint
from evaluation.gpu_check.checks import Check, FailedCheckError, Settings, SkippedCheckError
from evaluation.gpu_check.suite_commands import latest_result, run, scalars_of, scenes

# Tasks and mixers, the most important first.
MODELS = (
    ('mask_rcnn', 'convnext'),
    ('upernet', 'swin'),
    ('mask_rcnn', 'dcn'),
    ('mask_rcnn', 'swin'),
    ('upernet', 'convnext'),
    ('upernet', 'dcn'),
)
STEPS = 20
# Steps at both ends whose losses are compared.
ENDS = 5
# Options of each mode.
MODES = {
    'fp32': (),
    'fp16': ('--amp',),
    'bf16': ('--amp', '--cfg-options', 'optim_wrapper.dtype=bfloat16'),
    'deterministic': ('--deterministic',),
    'compiled': ('--compile',),
}
# Overrides of the recipes of the demonstration in a quick check.
QUICK = {
    'mask_rcnn': (
        'train_cfg.max_epochs=2',
        'train_cfg.val_interval=2',
        'default_hooks.checkpoint.interval=2',
        'default_hooks.logger.interval=1',
        'param_scheduler.0.end=5',
    ),
    'upernet': (
        'train_cfg.max_iters=20',
        'train_cfg.val_interval=20',
        'default_hooks.checkpoint.interval=20',
        'default_hooks.logger.interval=1',
        'param_scheduler.0.end=5',
        'param_scheduler.1.begin=5',
        'param_scheduler.1.end=20',
    ),
}
NEEDS_GPU = {
    'fp16': '--amp needs a GPU',
    'bf16': '--amp needs a GPU',
    'compiled': 'compiling for the CPU takes minutes; tests do it',
}
# Largest difference of a metric between devices, in percent.
METRIC_BOUND = 0.1


def checks(settings: Settings) -> list[Check]:
    """Return the checks of the stage, the most important first."""
    models = MODELS[:2] if settings.quick else MODELS
    found = []
    for task, mixer in models:
        found += [
            Check(f'{task}, {mixer}, {mode}', partial(train, settings, task, mixer, mode))
            for mode in MODES
        ]
        found.append(Check(f'{task}, {mixer}, evaluation', partial(evaluate, settings, task, mixer)))
    task, mixer = models[0]
    found.append(Check(f'{task}, {mixer}, shares of time', partial(time_shares, settings, task, mixer)))
    return found


def arguments_of(settings: Settings, task: str, mixer: str) -> list[str]:
    """Return the arguments of `tools/train.py` that all modes share, the config first."""
    root = scenes(settings, task)
    if settings.quick:
        config, options = f'configs/demo/{task}_{mixer}_micro.py', ['--cfg-options', *QUICK[task]]
    else:
        config, options = f'configs/_base_/check_gpu_{task}.py', ['--backbone', f'{mixer}_tiny']
    return [config, '--data-root', str(root), *options]


def folder_of(settings: Settings, task: str, mixer: str, mode: str) -> Path:
    """Return the work dir of a training."""
    return settings.folder / f'{task}_{mixer}_{mode}'


def train(settings: Settings, task: str, mixer: str, mode: str) -> dict[str, object]:
    """Train in a mode; the loss must be finite and fall. `deterministic` trains twice.

    Raises:
        FailedCheckError: it does not, or the two trainings differ in a bit.
        SkippedCheckError: the mode needs a GPU.
    """
    if mode in NEEDS_GPU and not settings.is_gpu:
        raise SkippedCheckError(NEEDS_GPU[mode])
    folder = folder_of(settings, task, mixer, mode)
    arguments = [*arguments_of(settings, task, mixer), *MODES[mode]]

    def train_into(work_dir: Path) -> None:
        command = ['tools/train.py', *arguments, '--work-dir', str(work_dir)]
        run(command, work_dir / 'output.log', settings)

    train_into(folder)
    found = training_figures(folder)
    if mode == 'deterministic':
        again = folder.with_name(f'{folder.name}_again')
        train_into(again)
        found['equal_weights'] = count_equal_weights(folder, again)
    return found


def training_figures(folder: Path) -> dict[str, object]:
    """Return losses, seconds of a step and peak memory of a training.

    Raises:
        FailedCheckError: the loss is not finite or does not fall.
    """
    losses = scalars_of(folder, 'loss')
    if not losses or not all(map(math.isfinite, losses)):
        raise FailedCheckError(f'the log has non-finite losses or none: {losses}')
    first, last = statistics.mean(losses[:ENDS]), statistics.mean(losses[-ENDS:])
    if not last < first:
        raise FailedCheckError(f'the loss does not fall: {first:.4g}, then {last:.4g}')
    memory = scalars_of(folder, 'memory')
    return {
        'steps': len(losses),
        'first_loss': first,
        'last_loss': last,
        'seconds_per_step': statistics.median(scalars_of(folder, 'time')[ENDS:]),
        'memory_bytes': max(memory) * 2**20 if memory else None,
        'metrics': latest_result(folder)['metrics'],
    }


def count_equal_weights(one: Path, other: Path) -> int:
    """Return the number of weights of two trainings.

    Raises:
        FailedCheckError: a weight differs.
    """
    ours, theirs = (
        weights_of(read_checkpoint(str(file)), str(file)) for file in map(last_checkpoint, (one, other))
    )
    different = [name for name, value in ours.items() if not torch.equal(value, theirs[name])]
    if different:
        raise FailedCheckError(
            f'{len(different)} of {len(ours)} weights differ in two trainings, such as {different[0]}'
        )
    return len(ours)


def evaluate(settings: Settings, task: str, mixer: str) -> dict[str, object]:
    """Evaluate the weights of the fp32 training on the CPU, and compare the metrics.

    Raises:
        FailedCheckError: a metric differs.
        SkippedCheckError: there are no weights.
    """
    trained = folder_of(settings, task, mixer, 'fp32')
    checkpoint = last_checkpoint(trained)
    if checkpoint is None:
        raise SkippedCheckError('the training in fp32 left no weights')
    there = latest_result(trained)['metrics']
    folder = folder_of(settings, task, mixer, 'evaluation_on_cpu')
    config, *rest = arguments_of(settings, task, mixer)
    command = ['tools/test.py', config, str(checkpoint), '--work-dir', str(folder), *rest]
    run(command, folder / 'output.log', settings, device='cpu')
    here = latest_result(folder)['metrics']
    found = {name: {'device': there[name], 'cpu': here[name]} for name in here}
    for name, value in here.items():
        if abs((value or 0) - (there[name] or 0)) > METRIC_BOUND:
            raise FailedCheckError(f'{name} is {there[name]} on the device, {value} on the CPU')
    return found


def time_shares(settings: Settings, task: str, mixer: str) -> dict[str, object]:
    """Return the share of time of each part of a training."""
    folder = folder_of(settings, task, mixer, 'time_shares')
    options = MODES['bf16'] if settings.is_gpu else ()
    command = ['tools/train.py', *arguments_of(settings, task, mixer), *options, '--time-shares']
    run([*command, '--work-dir', str(folder)], folder / 'output.log', settings)
    return latest_result(folder)['time_shares']
