"""Find the weights among the tensors of a checkpoint."""

from collections.abc import Mapping

import torch
from mmengine.logging import print_log
from torch import Tensor

from backbones.checkpoint.wrappers import unwrapped_name, unwrapped_names
from backbones.errors import BackboneError

# Keys under which checkpoints store weights; the first present is used unless one is chosen.
WEIGHT_KEYS = ('state_dict', 'model', 'model_ema', 'ema', 'state_dict_ema')

# In bytes. Up to this size, a tensor may be larger than its storage, as an expanded constant is.
LARGEST_REPETITION = 1 << 26


def weights_of(content: Mapping, source: str, key: str | None = None) -> dict[str, Tensor]:
    """Return the state dict in a checkpoint's content.

    Args:
        content: content returned by `read_checkpoint`.
        source: path or URL, for messages.
        key: entry to use, one of `WEIGHT_KEYS`; None uses the first that is present, or the whole
            content if it is a plain state dict. If several are present, the choice is logged.

    Raises:
        BackboneError: there are no weights, none under `key`, or some are non-finite.
    """
    present = [name for name in WEIGHT_KEYS if isinstance(content.get(name), Mapping)]
    if key and key not in present:
        found = ', '.join(present) or 'a plain state dict'
        raise BackboneError(f'checkpoint {source} has no weights under {key!r}; it has {found}')
    chosen = key or (present[0] if present else None)
    if len(present) > 1:
        print_log(f'{source} has weights under {", ".join(present)}; using {chosen}', logger='current')
    entries = content[chosen] if chosen else content
    # Averaged models are often stored one level deeper, next to their decay rate.
    if isinstance(entries.get('state_dict'), Mapping):
        entries = entries['state_dict']
    weights = _unwrapped(entries, source)
    if not weights:
        raise BackboneError(
            f'checkpoint {source} contains no weights; expected one of the keys '
            f'{", ".join(WEIGHT_KEYS)}, or a plain state dict'
        )
    for name, value in weights.items():
        fault = _fault_of(value)
        if fault:
            raise BackboneError(f'checkpoint {source}: {name} {fault}; get it from a source you trust')
    wrong = [n for n, v in weights.items() if v.is_floating_point() and not v.isfinite().all()]
    if wrong:
        raise BackboneError(
            f'checkpoint {source} has non-finite values in {len(wrong)} tensors, such as {wrong[0]}: '
            'its training diverged; use an earlier checkpoint'
        )
    return weights


def _unwrapped(entries: Mapping, source: str) -> dict[str, Tensor]:
    """Return the tensors, with the prefixes of wrappers removed from their names.

    Raises:
        BackboneError: two tensors would get the same name.
    """
    tensors = {n: v for n, v in entries.items() if isinstance(n, str) and isinstance(v, Tensor)}
    names: dict[str, str] = {}
    for full, name in unwrapped_names(tensors).items():
        if name in names:
            raise BackboneError(
                f'checkpoint {source} has {names[name]} and {full}, which both mean {name}; keep one'
            )
        names[name] = full
    return {name: tensors[full] for name, full in names.items()}


def _fault_of(value: Tensor) -> str | None:
    """Return why a tensor cannot be a weight; None if it can."""
    if value.layout != torch.strided or value.is_quantized or value.device.type == 'meta':
        return 'is not a dense array of numbers'
    size = value.numel() * value.element_size()
    if size > max(value.untyped_storage().nbytes(), LARGEST_REPETITION):
        return f'claims {size:,} bytes, but the file has only {value.untyped_storage().nbytes():,}'
    return None


def select_prefix(weights: dict[str, Tensor], prefix: str | None, source: str) -> dict[str, Tensor]:
    """Return the entries under `prefix`, without it; None detects a detector's `backbone.`.

    Raises:
        BackboneError: there are no entries under `prefix`.
    """
    if prefix is None:
        prefix = 'backbone.' if any(name.startswith('backbone.') for name in weights) else ''
    elif prefix and not prefix.endswith('.'):
        prefix += '.'
    chosen = _below(weights, prefix)
    if not chosen and prefix:
        # The prefix may contain wrappers, which were removed from the names of the weights.
        chosen = _below(weights, unwrapped_name(f'{prefix}*').removesuffix('*'))
    if not chosen:
        raise BackboneError(f'checkpoint {source} has nothing under the prefix {prefix!r}')
    return chosen


def _below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: v for name, v in weights.items() if name.startswith(prefix)}
