"""Ask whether anyone waits for the call of a layer, which a fused path would leave out."""

import functools
import warnings

from torch import nn


def is_called_by_nobody_else(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether a layer does what its class says: not exchanged, and no hook waits for its call.

    PyTorch has no public way to list hooks. Where its private ones are gone, the answer is no.
    """
    if type(layer) is not kind or 'forward' in layer.__dict__:
        return False
    try:
        hooks = (
            layer._forward_hooks,
            layer._forward_pre_hooks,
            layer._backward_hooks,
            layer._backward_pre_hooks,
        )
        return not any(hooks) and not nn.modules.module._has_any_global_hook()
    except AttributeError as error:
        _warn(str(error))
        return False


@functools.cache
def _warn(reason: str) -> None:
    warnings.warn(
        f'MLPs on the CPU are slower: hooks of layers cannot be listed ({reason})', stacklevel=4
    )
