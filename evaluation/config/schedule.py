"""Check that the loop, sampler, schedulers and hooks of a training use the same unit.

mmengine steps schedulers with `by_epoch=True` after each epoch. An iteration loop has one epoch, so they
silently have no effect there. `check_schedule` rejects settings that cannot be intended;
`evaluation.config.schedule_length` warns about those that may be.
"""

import functools
import inspect
from dataclasses import dataclass

from mmengine.config import Config
from mmengine.hooks import (
    CheckpointHook,
    EarlyStoppingHook,
    EMAHook,
    ParamSchedulerHook,
)
from mmengine.optim.scheduler import (
    ConstantParamScheduler,
    LinearParamScheduler,
    MultiStepParamScheduler,
    StepParamScheduler,
)
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from evaluation.config.settings import registered
from evaluation.utils.errors import UserError

INFINITE_SAMPLERS = ('InfiniteSampler', 'MultiSourceSampler')
# Hook settings in epochs.
EPOCHS_OF_HOOKS = ('begin_epoch', 'switch_epoch', 'num_last_epochs')
WARM_UPS = (LinearParamScheduler, ConstantParamScheduler)


@dataclass(frozen=True)
class Loop:
    """The training loop.

    Attributes:
        by_epoch: whether it counts epochs.
        length: length in epochs or iterations.
        name: name of its class, for messages.
    """

    by_epoch: bool
    length: int
    name: str

    @property
    def unit(self) -> str:
        """The unit that it counts."""
        return 'epochs' if self.by_epoch else 'iterations'

    @property
    def length_key(self) -> str:
        """The setting of its length, with the value."""
        return f'train_cfg.max_{"epochs" if self.by_epoch else "iters"}={self.length}'


@dataclass(frozen=True)
class SchedulePart:
    """A scheduler, hook or sampler.

    Attributes:
        place: dotted key in the config.
        settings: settings in the config.
        built: class; `object` if unknown.
    """

    place: str
    settings: dict
    built: type = object

    def get(self, name: str) -> object:
        """Return a setting, or its default in the class."""
        if name in self.settings:
            return self.settings[name]
        return _defaults(self.built).get(name)

    def is_a(self, *names: str) -> bool:
        """Return whether its class, or a base class, has one of these names."""
        return any(base.__name__ in names for base in self.built.__mro__)


@functools.cache
def _defaults(built: type) -> dict:
    """Return the default arguments of a class and its base classes."""
    found: dict = {}
    for base in reversed(built.__mro__):
        init = vars(base).get('__init__')
        if inspect.isfunction(init):
            found |= {
                name: parameter.default
                for name, parameter in inspect.signature(init).parameters.items()
                if parameter.default is not parameter.empty
            }
    return found


def check_schedule(cfg: Config, processes: int) -> None:
    """Check that all parts of a training use the unit of its loop.

    Args:
        cfg: config with the overrides of the command line.
        processes: number of processes.

    Raises:
        UserError: a part uses the other unit, or can never act; the message names the fix.
    """
    loop = loop_of(cfg)
    if loop is None:
        return
    hooks = hooks_of(cfg)
    schedulers = schedulers_of(cfg)
    _check_sampler(sampler_of(cfg), loop)
    for scheduler in schedulers:
        _check_unit(scheduler, loop, sampler_of(cfg), processes)
    stepped = (cfg.get('default_hooks') or {}).get('param_scheduler', True) is not None
    if schedulers and not stepped and not any(issubclass(h.built, ParamSchedulerHook) for h in hooks):
        raise UserError(
            'default_hooks.param_scheduler=None: the schedulers in param_scheduler would never step; '
            "give default_hooks.param_scheduler.type='ParamSchedulerHook', or param_scheduler=None"
        )
    for hook in hooks:
        _check_checkpoints(hook, loop)
        _check_epochs_of_hook(hook, loop)
        _check_validation(hook, cfg)
    if not loop.by_epoch and (cfg.get('log_processor') or {}).get('by_epoch', True):
        raise UserError(
            f'log_processor counts epochs, but {loop.length_key} counts iterations; '
            'give log_processor.by_epoch=False'
        )


def loop_of(cfg: Config) -> Loop | None:
    """Return the training loop; None if its class is unknown."""
    settings = cfg.train_cfg
    wanted = settings.get('type')
    if wanted is None:
        built = EpochBasedTrainLoop if settings.get('by_epoch') else IterBasedTrainLoop
    else:
        built = LOOPS.get(wanted) if isinstance(wanted, str) else wanted
    for base, key in ((EpochBasedTrainLoop, 'max_epochs'), (IterBasedTrainLoop, 'max_iters')):
        if inspect.isclass(built) and issubclass(built, base) and isinstance(settings.get(key), int):
            return Loop(base is EpochBasedTrainLoop, settings[key], built.__name__)
    return None


def schedulers_of(cfg: Config) -> list[SchedulePart]:
    """Return the schedulers of the config: from a list, a single one, or a dict by optimizer name."""
    found = []

    def gather(value: object, place: str) -> None:
        if isinstance(value, (list, tuple)):
            for index, entry in enumerate(value):
                gather(entry, f'{place}.{index}')
        elif isinstance(value, dict) and 'type' in value:
            found.append(_part(cfg, place, value))
        elif isinstance(value, dict):
            for name, entry in value.items():
                gather(entry, f'{place}.{name}')

    gather(cfg.get('param_scheduler'), 'param_scheduler')
    return found


def hooks_of(cfg: Config) -> list[SchedulePart]:
    """Return the hooks of the config, and mmengine's checkpoint hook if the config names none."""
    default_hooks = cfg.get('default_hooks') or {}
    found = [
        _part(cfg, f'default_hooks.{name}', settings)
        for name, settings in default_hooks.items()
        if isinstance(settings, dict)
    ]
    found += [
        _part(cfg, f'custom_hooks.{index}', settings)
        for index, settings in enumerate(cfg.get('custom_hooks') or ())
        if isinstance(settings, dict)
    ]
    if 'checkpoint' not in default_hooks:
        found.append(SchedulePart('default_hooks.checkpoint', {'interval': 1}, CheckpointHook))
    return found


def sampler_of(cfg: Config, loader: str = 'train_dataloader') -> SchedulePart:
    """Return the sampler of a data loader."""
    settings = cfg[loader].get('sampler')
    return _part(cfg, f'{loader}.sampler', settings if isinstance(settings, dict) else {})


def _part(cfg: Config, place: str, settings: dict) -> SchedulePart:
    found = [each for _, each in registered(settings.get('type'), cfg.get('default_scope'))]
    return SchedulePart(place, settings, next(filter(inspect.isclass, found), object))


def _check_sampler(sampler: SchedulePart, loop: Loop) -> None:
    if loop.by_epoch and sampler.is_a(*INFINITE_SAMPLERS):
        raise UserError(
            f'{sampler.place}.type={name_of(sampler)!r} never ends, so with {loop.length_key} neither '
            f"would the first epoch; give {sampler.place}.type='SeededSampler'"
        )


def _check_unit(scheduler: SchedulePart, loop: Loop, sampler: SchedulePart, processes: int) -> None:
    """Check the unit of a scheduler.

    Raises:
        UserError: it would never step, or would step in an unintended unit.
    """
    place, by_epoch = scheduler.place, bool(scheduler.settings.get('by_epoch', True))
    converted = bool(scheduler.settings.get('convert_to_iter_based'))
    name = name_of(scheduler)
    if getattr(scheduler.built, 'need_val_args', False):  # stepped after evaluations in either loop
        if not by_epoch:
            raise UserError(f'{place}.by_epoch=False: {name} only supports {place}.by_epoch=True')
        return
    if converted and not by_epoch:
        raise UserError(
            f'{place}.convert_to_iter_based=True converts epochs, but {place}.by_epoch=False; '
            f'give {place}.convert_to_iter_based=False'
        )
    if not loop.by_epoch and by_epoch:
        if not converted:
            raise UserError(
                f'{place} ({name}) counts epochs, but {loop.length_key} counts iterations: it would '
                f'never step; give {place}.by_epoch=False, with {_positions(scheduler)} in iterations'
            )
        if 'end' not in scheduler.settings or (processes > 1 and sampler.is_a(*INFINITE_SAMPLERS)):
            raise UserError(
                f'{place} ({name}) is converted from epochs, but the length of an epoch does not follow '
                f'from {loop.length_key}; give {place}.convert_to_iter_based=False '
                f'{place}.by_epoch=False, with {_positions(scheduler)} in iterations'
            )
    if loop.by_epoch and not by_epoch and not issubclass(scheduler.built, WARM_UPS):
        key, value = _last_position(scheduler)
        if isinstance(value, (int, float)) and 1 < value <= loop.length:
            raise UserError(
                f'{place} ({name}) counts iterations, but its {key} of {value} looks like a number '
                f'of epochs ({loop.length_key}); give {place}.by_epoch=True, or '
                f'{_positions(scheduler)} in iterations'
            )


def _last_position(scheduler: SchedulePart) -> tuple[str, object]:
    """Return the setting that shows the intended unit of a decay, and its value."""
    if issubclass(scheduler.built, MultiStepParamScheduler) and milestones_of(scheduler):
        return 'last milestone', max(milestones_of(scheduler))
    if issubclass(scheduler.built, StepParamScheduler):
        return 'step_size', scheduler.settings.get('step_size')
    return 'end', scheduler.settings.get('end')


def _positions(scheduler: SchedulePart) -> str:
    """Return the names of a scheduler's settings that depend on its unit."""
    names = ['begin', 'end']
    if issubclass(scheduler.built, MultiStepParamScheduler):
        names.append('milestones')
    elif issubclass(scheduler.built, StepParamScheduler):
        names.append('step_size')
    elif 'T_max' in scheduler.settings:
        names.append('T_max')
    return f'{", ".join(names[:-1])} and {names[-1]}'


def milestones_of(scheduler: SchedulePart) -> list[int]:
    """Return the milestones of a scheduler, counted from its `begin`."""
    return [*(scheduler.settings.get('milestones') or ())]


def _check_checkpoints(hook: SchedulePart, loop: Loop) -> None:
    """Check when checkpoints are saved.

    Raises:
        UserError: the hook uses the other unit, or would never save.
    """
    if not issubclass(hook.built, CheckpointHook):
        return
    place = hook.place
    if bool(hook.get('by_epoch')) != loop.by_epoch:
        theirs = 'iterations' if loop.by_epoch else 'epochs'
        raise UserError(
            f'{place} counts {theirs}, but {loop.length_key} counts {loop.unit}; '
            f'give {place}.by_epoch={loop.by_epoch}, with {place}.interval in {loop.unit}'
        )
    interval = hook.get('interval')
    if not hook.get('save_last') and isinstance(interval, int) and not 0 < interval <= loop.length:
        raise UserError(
            f'{place}.interval={interval} and save_last=False: no checkpoint would be saved with '
            f'{loop.length_key}; give {place}.interval={loop.length} or less, or {place}.save_last=True'
        )


def _check_epochs_of_hook(hook: SchedulePart, loop: Loop) -> None:
    """Check settings of a hook that are in epochs or iterations.

    Raises:
        UserError: the loop uses the other unit, or ends earlier.
    """
    for name in EPOCHS_OF_HOOKS:
        if not loop.by_epoch and hook.settings.get(name):
            raise UserError(
                f'{hook.place}.{name}={hook.settings[name]} counts epochs, but {loop.length_key} counts '
                f'iterations; remove {hook.place} ({name_of(hook)}), or count iterations in it'
            )
    if issubclass(hook.built, EMAHook):
        name = 'begin_epoch' if loop.by_epoch else 'begin_iter'
        begin = hook.settings.get(name) or 0
        if begin > loop.length:
            raise UserError(
                f'{hook.place}.{name}={begin} is beyond {loop.length_key}: no weights would be '
                f'averaged; give {hook.place}.{name}={loop.length} or less'
            )


def _check_validation(hook: SchedulePart, cfg: Config) -> None:
    """Check that the training has evaluations if a hook needs their metrics.

    Raises:
        UserError: it has none.
    """
    best = issubclass(hook.built, CheckpointHook) and hook.get('save_best')
    if cfg.get('val_cfg') is None and (best or issubclass(hook.built, EarlyStoppingHook)):
        what = f'{hook.place}.save_best={best!r}' if best else f'{hook.place} ({name_of(hook)})'
        remedy = f'{hook.place}.save_best=None' if best else f'remove {hook.place}'
        raise UserError(f'{what} needs evaluations, but val_cfg is None; give val_cfg, or {remedy}')


def name_of(part: SchedulePart) -> str:
    """Return the name of a part's class, or its `type` if the class is unknown."""
    return part.built.__name__ if part.built is not object else str(part.settings.get('type'))
