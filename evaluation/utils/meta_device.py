"""Modules on the `meta` device, whose tensors have shapes but no values."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain

import torch
from mmengine.registry import MODELS, DefaultScope
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from evaluation.utils.errors import UserError


def build_without_values(
    model: Mapping, scope: str | None, failed: str = 'the model cannot be built'
) -> nn.Module:
    """Build a model on the `meta` device, without memory or time for its values.

    Args:
        model: config of the model; not changed.
        scope: library whose registry is searched first, such as `mmdet`.
        failed: start of the error message.

    Raises:
        UserError: no model can be built from the config.
    """
    try:
        with parameters_without_values(), DefaultScope.overwrite_default_scope(scope):
            built = MODELS.build(copy.deepcopy(model))
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = ' '.join(str(part) for part in error.args).split()
        raise UserError(f'{failed}: {" ".join(reason)}') from error
    return built.to('meta')


@contextmanager
def parameters_without_values() -> Iterator[None]:
    """Create the parameters of modules on the `meta` device.

    Only registered parameters lose their values, so constructors can still compute with tensors, for
    example drop path rates.
    """

    def without_values(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter:
        if parameter.is_meta:  # Shared with an earlier module; keep it shared.
            return parameter
        return nn.Parameter(parameter.to('meta'), requires_grad=parameter.requires_grad)

    hook = register_module_parameter_registration_hook(without_values)
    try:
        yield
    finally:
        hook.remove()


def without_values(module: nn.Module) -> nn.Module:
    """Return a copy on the `meta` device, which needs no memory for parameters and buffers."""
    tensors = chain(module.parameters(), module.buffers())
    return copy.deepcopy(module, {id(tensor): _on_meta(tensor) for tensor in tensors})


def _on_meta(tensor: torch.Tensor) -> torch.Tensor:
    meta = tensor.detach().to('meta')
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(meta, requires_grad=tensor.requires_grad)
    return meta
