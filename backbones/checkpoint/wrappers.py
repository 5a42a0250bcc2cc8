"""Prefixes that wrappers of a model leave in the names of its weights."""

from collections.abc import Iterable, Mapping

from torch import Tensor

# torch.compile, which wraps parts of a model as well as the whole.
COMPILED = '_orig_mod'
# DistributedDataParallel and averaged models; trainers that hold the model.
PARALLEL, HOLDER = 'module', 'model'
BACKBONE = 'backbone'
# Share of the names from which on a holder's prefix is one of the whole file. A holder may have weights
# of its own, such as those of a loss.
MOST = 0.9


def unwrapped_name(name: str, drop_holder: bool = True) -> str:
    """Return a weight's name without the prefixes of wrappers.

    Such as `backbone.stem.conv1.weight` for `module.model.backbone._orig_mod.stem.conv1.weight`.

    Args:
        name: any.
        drop_holder: whether `model.` at the beginning is such a prefix too.
    """
    parts = [part for part in name.split('.') if part != COMPILED]
    dropped = (PARALLEL, HOLDER) if drop_holder else (PARALLEL,)
    start = next((i for i, p in enumerate(parts) if p not in (*dropped, BACKBONE)), len(parts))
    if start == len(parts):
        return '.'.join(parts)
    of_backbone = [BACKBONE] if BACKBONE in parts[:start] else []
    return '.'.join([*of_backbone, *parts[start:]])


def unwrapped_names(names: Iterable[str]) -> dict[str, str]:
    """Return the names of a file without the prefixes of wrappers, by the full names."""
    kept = {name: unwrapped_name(name, drop_holder=False) for name in names}
    held = [name for name in kept.values() if name.startswith(f'{HOLDER}.')]
    if len(held) < MOST * len(kept):
        return kept
    return {name: unwrapped_name(name) for name in kept}


def in_own_names(weights: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """Rename weights to the names of a model that has parts called like wrappers, such as `model`."""
    by_name = {unwrapped_name(name): name for name in own}
    return {by_name.get(unwrapped_name(name), name): value for name, value in weights.items()}
