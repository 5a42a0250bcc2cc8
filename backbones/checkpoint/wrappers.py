"""Remove the prefixes that model wrappers add to the names of weights."""

from collections.abc import Iterable, Mapping

from torch import Tensor

# torch.compile; it may wrap the whole model or parts of it.
COMPILED = '_orig_mod'
# From DistributedDataParallel and averaged models; from trainers that hold the model.
PARALLEL, HOLDER = 'module', 'model'
BACKBONE = 'backbone'
# Minimum share of names with the prefix `model.` for it to count as a wrapper's. It need not be all of
# them, since a trainer may have its own weights, such as those of a loss.
MOST = 0.9


def unwrapped_name(name: str, drop_holder: bool = True) -> str:
    """Return a weight's name without the prefixes of wrappers.

    For example, `module.model.backbone._orig_mod.stem.weight` becomes `backbone.stem.weight`.

    Args:
        name: name of a weight.
        drop_holder: whether to remove a leading `model.` too.
    """
    parts = [part for part in name.split('.') if part != COMPILED]
    dropped = (PARALLEL, HOLDER) if drop_holder else (PARALLEL,)
    start = next((i for i, p in enumerate(parts) if p not in (*dropped, BACKBONE)), len(parts))
    if start == len(parts):
        return '.'.join(parts)
    of_backbone = [BACKBONE] if BACKBONE in parts[:start] else []
    return '.'.join([*of_backbone, *parts[start:]])


def unwrapped_names(names: Iterable[str]) -> dict[str, str]:
    """Map the names in a file to names without the prefixes of wrappers."""
    kept = {name: unwrapped_name(name, drop_holder=False) for name in names}
    held = [name for name in kept.values() if name.startswith(f'{HOLDER}.')]
    if len(held) < MOST * len(kept):
        return kept
    return {name: unwrapped_name(name) for name in kept}


def in_own_names(weights: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """Rename weights to a model's own names, even if parts of it are named like wrappers (`model`)."""
    by_name = {unwrapped_name(name): name for name in own}
    return {by_name.get(unwrapped_name(name), name): value for name, value in weights.items()}
