"""Parameters and FLOPs of any network, without values."""

import copy
from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn

from evaluation.models.operator_flops import count_flops


@dataclass(frozen=True)
class Cost:
    """What a subject has and does.

    Attributes:
        parameters: all, frozen ones too.
        flops: multiply-adds of the forward pass over one image.
        uncounted_operators: operators that are missing from `flops`.
    """

    parameters: int
    flops: int
    uncounted_operators: tuple[str, ...]


def count_cost(module: nn.Module, height: int, width: int) -> Cost:
    """Parameters and FLOPs of a module on one image of some size; the module is not changed."""
    module = without_values(module).eval()
    with torch.no_grad(), count_flops(module) as counter:
        module(torch.empty(1, 3, height, width, device='meta'))
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return Cost(parameters, counter.total, tuple(sorted(counter.uncounted)))


def without_values(module: nn.Module) -> nn.Module:
    """A copy on the `meta` device, which takes no memory for parameters and buffers."""
    tensors = chain(module.parameters(), module.buffers())
    return copy.deepcopy(module, {id(tensor): _on_meta(tensor) for tensor in tensors})


def _on_meta(tensor: torch.Tensor) -> torch.Tensor:
    meta = tensor.detach().to('meta')
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(meta, requires_grad=tensor.requires_grad)
    return meta
