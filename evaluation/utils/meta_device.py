"""Modules on the `meta` device, whose tensors have shapes and no values."""

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
    """Build a model on the `meta` device, in as little time and memory as its structure takes.

    Args:
        model: its config, which stays as it is.
        scope: library in whose registry types are looked up first, such as `mmdet`.
        failed: start of the message of an error.

    Raises:
        UserError: the config does not describe a model.
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
    """Let modules that are built have their parameters on the `meta` device.

    Only what is registered as a parameter loses its values, so that a constructor may still compute,
    such as the rates of drop path.
    """

    def without_values(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter:
        if parameter.is_meta:  # Shared with a module before, and so it shall stay.
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
