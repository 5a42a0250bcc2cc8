"""Check a backbone's options before anything is built."""

import difflib
import inspect
from collections.abc import Sequence

from backbones.errors import BackboneError
from backbones.mixers import MIXERS, TokenMixer

GIVEN_BY_BACKBONE = ('self', 'dim', 'block_index')


def check_lengths(stages: int, **by_stage: Sequence) -> None:
    """Check that every per-stage option has one entry per stage.

    Raises:
        BackboneError: an option has a different number of entries.
    """
    for name, values in by_stage.items():
        if len(values) != stages:
            raise BackboneError(
                f'{name}={list(values)} has {len(values)} entries; depths has {stages} stages'
            )


def check_whole_numbers(**by_stage: Sequence) -> None:
    """Check that per-stage options are positive whole numbers.

    Raises:
        BackboneError: an option has a different value.
    """
    for name, values in by_stage.items():
        if any(type(value) is not int or value < 1 for value in values):
            raise BackboneError(f'{name}={list(values)}: give a whole number, 1 or more, for each stage')


def check_init_cfg(init_cfg: dict | list[dict] | None) -> None:
    """Check that pretrained weights are given in the only supported form.

    Raises:
        BackboneError: `Pretrained` is in a list or has no `checkpoint`.
    """
    configs = init_cfg if isinstance(init_cfg, list) else [init_cfg or {}]
    for config in configs:
        if config.get('type') == 'Pretrained' and (
            config is not init_cfg or not config.get('checkpoint')
        ):
            raise BackboneError(
                f"init_cfg={init_cfg!r}: give dict(type='Pretrained', checkpoint=..., prefix=...)"
            )


def mixer_class(mixer: dict) -> type[TokenMixer]:
    """Return the class that a `mixer` config names.

    Raises:
        BackboneError: the mixer is unknown; the message lists the known ones.
    """
    if not isinstance(mixer, dict) or 'type' not in mixer:
        raise BackboneError(f"mixer={mixer!r}: give a dict such as dict(type='swin', num_heads=...)")
    if mixer['type'] not in MIXERS:
        raise BackboneError(f'unknown mixer {mixer["type"]!r}; choose from {", ".join(MIXERS)}')
    return MIXERS[mixer['type']]


def options_of_stage(mixer: dict, stage: int, stages: int) -> dict:
    """Return the options of `mixer` for one stage, checked against the mixer's signature.

    Args:
        mixer: `type` and options; each option is one value or a sequence with one value per stage.
        stage: index of the stage.
        stages: number of stages.

    Raises:
        BackboneError: an option is unknown, missing, or a sequence of the wrong length.
    """
    signature = inspect.signature(mixer_class(mixer).__init__).parameters.values()
    known = {p.name: p for p in signature if p.name not in GIVEN_BY_BACKBONE}
    options = {name: value for name, value in mixer.items() if name != 'type'}
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f'did you mean {near[0]!r}? ' if near else ''
            raise BackboneError(
                f'mixer {mixer["type"]!r} has no option {name!r}; {hint}'
                f'its options are: {", ".join(known) or "none"}'
            )
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in options:
            raise BackboneError(f'mixer {mixer["type"]!r} needs the option {name!r}')
    by_stage = {n: v for n, v in options.items() if isinstance(v, (list, tuple))}
    check_lengths(stages, **by_stage)
    return {n: v[stage] if n in by_stage else v for n, v in options.items()}
