"""Checks of a backbone's options, so that a wrong one is named before anything is built."""

import difflib
import inspect
from collections.abc import Sequence

from backbones.errors import BackboneError
from backbones.mixers import MIXERS, TokenMixer

GIVEN_BY_BACKBONE = ('self', 'dim', 'block_index')


def check_lengths(stages: int, **by_stage: Sequence) -> None:
    """Check that every option by stage has one entry a stage.

    Raises:
        BackboneError: one has not.
    """
    for name, values in by_stage.items():
        if len(values) != stages:
            raise BackboneError(
                f'{name}={list(values)} has {len(values)} entries; depths has {stages} stages'
            )


def check_init_cfg(init_cfg: dict | list[dict] | None) -> None:
    """Check that weights to start from are given in the one form that is understood.

    Raises:
        BackboneError: `Pretrained` stands in a list or has no `checkpoint`.
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
    """The class that a `mixer` config names.

    Raises:
        BackboneError: there is no such mixer; the message lists the known ones.
    """
    if not isinstance(mixer, dict) or 'type' not in mixer:
        raise BackboneError(f"mixer={mixer!r}: give a dict such as dict(type='swin', num_heads=...)")
    if mixer['type'] not in MIXERS:
        raise BackboneError(f'unknown mixer {mixer["type"]!r}; known are {", ".join(MIXERS)}')
    return MIXERS[mixer['type']]


def options_of_stage(mixer: dict, stage: int, stages: int) -> dict:
    """Options of `mixer` for one stage, each checked against the mixer's own signature.

    Args:
        mixer: `type` and options, each one value or a sequence with one value a stage.
        stage: index of the stage.
        stages: how many there are.

    Raises:
        BackboneError: an option is misspelt, missing, or a sequence of another length.
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
