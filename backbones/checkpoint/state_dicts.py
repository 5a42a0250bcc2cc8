"""Which of the tensors in a checkpoint are the weights."""

from collections.abc import Mapping

import torch
from mmengine.logging import print_log
from torch import Tensor

from backbones.checkpoint.wrappers import unwrapped_name, unwrapped_names
from backbones.errors import BackboneError

# Where checkpoints keep weights; the first that is there counts, unless one is chosen.
WEIGHT_KEYS = ('state_dict', 'model', 'model_ema', 'ema', 'state_dict_ema')

# Bytes; a constant may be stored once for many entries.
LARGEST_REPETITION = 1 << 26


def weights_of(content: Mapping, source: str, key: str | None = None) -> dict[str, Tensor]:
    """The state dict in a checkpoint's content.

    Args:
        content: what `read_checkpoint` returned.
        source: where it comes from, for messages.
        key: entry to take, one of `WEIGHT_KEYS`; None takes the first that is there, or all of a plain
            state dict. Where several are there, the choice is logged.

    Raises:
        BackboneError: there are no weights, none under `key`, or some that are no finite numbers.
    """
    present = [name for name in WEIGHT_KEYS if isinstance(content.get(name), Mapping)]
    if key and key not in present:
        found = ', '.join(present) or 'a plain state dict'
        raise BackboneError(f'checkpoint {source} has no weights under {key!r}; it has {found}')
    chosen = key or (present[0] if present else None)
    if len(present) > 1:
        print_log(f'{source} has weights under {", ".join(present)}: taking {chosen}', logger='current')
    entries = content[chosen] if chosen else content
    # Averaged models are often stored one level deeper, beside their decay.
    if isinstance(entries.get('state_dict'), Mapping):
        entries = entries['state_dict']
    weights = _unwrapped(entries, source)
    if not weights:
        raise BackboneError(
            f'checkpoint {source} holds no weights: expected one of {", ".join(WEIGHT_KEYS)}, '
            'or a plain state dict'
        )
    for name, value in weights.items():
        fault = _fault_of(value)
        if fault:
            raise BackboneError(f'checkpoint {source}: {name} {fault}; get it from a source you trust')
    wrong = [n for n, v in weights.items() if v.is_floating_point() and not v.isfinite().all()]
    if wrong:
        raise BackboneError(
            f'checkpoint {source} holds values that are no finite numbers in {len(wrong)} tensors, '
            f'such as {wrong[0]}: its training diverged; take an earlier one'
        )
    return weights


def _unwrapped(entries: Mapping, source: str) -> dict[str, Tensor]:
    """Return the tensors by their names without prefixes of wrappers.

    Raises:
        BackboneError: two would have the same name.
    """
    tensors = {n: v for n, v in entries.items() if isinstance(n, str) and isinstance(v, Tensor)}
    names: dict[str, str] = {}
    for full, name in unwrapped_names(tensors).items():
        if name in names:
            raise BackboneError(
                f'checkpoint {source} has {names[name]} and {full}, two weights called {name}; keep one'
            )
        names[name] = full
    return {name: tensors[full] for name, full in names.items()}


def _fault_of(value: Tensor) -> str | None:
    """Why a tensor cannot be a weight, if it cannot."""
    if value.layout != torch.strided or value.is_quantized or value.device.type == 'meta':
        return 'is no array of numbers'
    size = value.numel() * value.element_size()
    if size > max(value.untyped_storage().nbytes(), LARGEST_REPETITION):
        return f'claims {size:,} bytes, of which the file has {value.untyped_storage().nbytes():,}'
    return None


def select_prefix(weights: dict[str, Tensor], prefix: str | None, source: str) -> dict[str, Tensor]:
    """Entries under `prefix`, without it; a detector's `backbone.` is found where none is given.

    Raises:
        BackboneError: nothing lies under `prefix`.
    """
    if prefix is None:
        prefix = 'backbone.' if any(name.startswith('backbone.') for name in weights) else ''
    elif prefix and not prefix.endswith('.'):
        prefix += '.'
    chosen = _below(weights, prefix)
    if not chosen and prefix:
        # The prefix may name wrappers, which the weights' names are without.
        chosen = _below(weights, unwrapped_name(f'{prefix}*').removesuffix('*'))
    if not chosen:
        raise BackboneError(f'checkpoint {source} has nothing under the prefix {prefix!r}')
    return chosen


def _below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: v for name, v in weights.items() if name.startswith(prefix)}
