"""Warnings about schedules that do not fit the length of the training.

They may be intended, as in a trial of a few iterations, so they do not stop the training.
"""

from collections.abc import Collection, Iterator

from mmengine.config import Config
from mmengine.hooks import LoggerHook
from mmengine.optim.scheduler import (
    CosineAnnealingParamScheduler,
    OneCycleParamScheduler,
    PolyParamScheduler,
)

from evaluation.config.schedule import (
    WARM_UPS,
    Loop,
    SchedulePart,
    hooks_of,
    loop_of,
    milestones_of,
    name_of,
    sampler_of,
    schedulers_of,
)

# Schedulers that are meant to reach their final value.
TO_AN_END = (CosineAnnealingParamScheduler, PolyParamScheduler, OneCycleParamScheduler)


def length_warnings(cfg: Config, options: Collection[str] = ()) -> list[str]:
    """Return warnings about settings that the training does not reach and steps without a scheduler.

    Args:
        cfg: config with the overrides of the command line.
        options: keys of these overrides. Overriding the length means a short trial, which does not reach
            the end of the schedule on purpose.
    """
    loop = loop_of(cfg)
    if loop is None:
        return []
    in_unit = [s for s in schedulers_of(cfg) if bool(s.settings.get('by_epoch', True)) == loop.by_epoch]
    begin = cfg.train_cfg.get('val_begin') or 0
    found = []
    if cfg.get('val_cfg') is not None and begin > loop.length:
        found.append(
            f'train_cfg.val_begin={begin} is beyond {loop.length_key}: nothing will be evaluated'
        )
    if loop.length_key.partition('=')[0] not in options:
        found += [line for scheduler in in_unit for line in _beyond(scheduler, loop)]
    found += [line for scheduler in in_unit for line in _wrong_period(scheduler, loop)]
    found += list(_gaps(in_unit, loop))
    sampler = sampler_of(cfg)
    if not loop.by_epoch and sampler.is_a('DefaultSampler'):
        found.append(
            f'{sampler.place}.type={name_of(sampler)!r} ends after all images, and {loop.name} then '
            f"restarts all workers; give {sampler.place}.type='SeededInfiniteSampler'"
        )
    for hook in hooks_of(cfg):
        if not loop.by_epoch and issubclass(hook.built, LoggerHook) and hook.get('log_metric_by_epoch'):
            found.append(
                f'{hook.place}.log_metric_by_epoch=True: {loop.name} has one epoch, so all evaluations '
                f'are logged at step 0; give {hook.place}.log_metric_by_epoch=False'
            )
        switch = hook.settings.get('switch_epoch') or 0
        if loop.by_epoch and switch >= loop.length:
            found.append(f'{hook.place}.switch_epoch={switch} is never reached in {loop.length_key}')
    return found


def _beyond(scheduler: SchedulePart, loop: Loop) -> Iterator[str]:
    """Yield warnings about parts of a scheduler beyond the length of the training."""
    begin, end = scheduler.settings.get('begin') or 0, scheduler.settings.get('end', loop.length)
    place, name = scheduler.place, name_of(scheduler)
    late = [step for step in milestones_of(scheduler) if begin + step >= loop.length]
    if begin >= loop.length:
        yield f'{place} ({name}) begins at {begin}, which {loop.length_key} never reaches'
    elif late:
        yield f'{place}.milestones: {late} are never reached in {loop.length_key}; give smaller ones'
    elif issubclass(scheduler.built, (*TO_AN_END, *WARM_UPS)) and end > loop.length and end < 10**8:
        yield (
            f'{place} ({name}) ends at {end}, which {loop.length_key} never reaches; '
            f'give {place}.end={loop.length} to run all of it'
        )


def _wrong_period(scheduler: SchedulePart, loop: Loop) -> Iterator[str]:
    """Yield a warning if the period of a cosine differs from its duration."""
    begin, end = scheduler.settings.get('begin') or 0, scheduler.settings.get('end', loop.length)
    total = scheduler.settings.get('T_max')
    if total and total != end - begin:
        yield (
            f'{scheduler.place}.T_max={total} is not the {end - begin} {loop.unit} from {begin} to '
            f'{end}; remove T_max to use these'
        )


def _gaps(schedulers: list[SchedulePart], loop: Loop) -> Iterator[str]:
    """Yield warnings about steps without a scheduler, and about decays that end before the training."""
    spans = sorted(
        (
            s.settings.get('begin') or 0,
            s.settings.get('end', float('inf')),
            s.place,
            issubclass(s.built, TO_AN_END),
        )
        for s in schedulers
        if s.settings.get('param_name') in (None, 'lr')
    )
    covered, before, decays = 0, None, False
    for begin, end, place, is_decay in spans:
        if before and begin > covered:
            yield (
                f'no scheduler acts between {covered}, where {before} ends, and {begin}, where {place} '
                f'begins; give {place}.begin={covered} to close the gap'
            )
        if end > covered:
            covered, before, decays = end, place, is_decay
    if decays and covered < loop.length:
        yield (
            f'{before}.end={covered} leaves {loop.unit} {covered} to {loop.length} at its final rate; '
            f'give {before}.end={loop.length} to match {loop.length_key}'
        )
