"""The two variants of each recipe: fair to all mixers, or as released."""

from collections.abc import Mapping

FAIR, RELEASED = 'fair', 'released'
# Of `backbones`, which is not imported for a name: tables must not wait for torch.
RELEASED_CONSTRUCTOR = 'ReleasedDecayConstructor'
# What the fair recipes do not decay beside norms, as keys of `paramwise_cfg.custom_keys`.
POSITIONS = ('relative_position_bias_table', 'height_rel', 'width_rel', 'pos_embed')


def recipe_of(optim_wrapper: Mapping) -> str | None:
    """Return which variant the weight decay of a config is; None for a rule of the user's own.

    The variants differ in nothing else: see docs/training.md.

    Args:
        optim_wrapper: of the config.
    """
    constructor = optim_wrapper.get('constructor')
    if getattr(constructor, '__name__', constructor) == RELEASED_CONSTRUCTOR:
        return RELEASED
    rules = optim_wrapper.get('paramwise_cfg') or {}
    keys = rules.get('custom_keys') or {}
    exempt = [(keys.get(name) or {}).get('decay_mult') == 0 for name in POSITIONS]
    return FAIR if rules.get('norm_decay_mult') == 0 and all(exempt) else None
