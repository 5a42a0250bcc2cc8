"""Run code of a GPU training on tensors without values and without a GPU.

Operators whose result depends on values assume the most memory: every mask is true everywhere, every
number is one, and non-maximum suppression keeps every box. Samplers then return their full number of
regions.
"""

import contextlib
import pkgutil
from collections.abc import Callable, Iterator
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
import torchvision  # noqa: F401 - registers its operators
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from evaluation.memory.graph import backward_without_engine
from evaluation.utils.errors import UserError

aten = torch.ops.aten
# PyTorch's kernels need masks whose rows are multiples of this.
_MASK_MULTIPLE = 16
# Version of PyTorch that the prediction is tested with.
TESTED = '2.11'
# Private parts of PyTorch that a step without values needs, and those of the nodes of its graph.
_PRIVATE = (
    'torch._subclasses.fake_tensor.FakeTensorMode',
    'torch._C._current_graph_task_id',
    'torch.cuda.amp.common.amp_definitely_not_available',
    'torch.UntypedStorage._cdata',
)
_PRIVATE_OF_NODES = ('_input_metadata', '_sequence_nr')


def check_private_parts() -> None:
    """Check that PyTorch has the private parts that `shapes_only` and `backward_without_engine` use.

    Raises:
        UserError: it lacks one.
    """
    node = torch.zeros(1, requires_grad=True).abs().grad_fn
    lacking = [name for name in _PRIVATE if not _exists(name)]
    lacking += [name for name in _PRIVATE_OF_NODES if not hasattr(node, name)]
    if lacking:
        raise UserError(
            f'PyTorch {torch.__version__} has no {lacking[0]}, which the prediction of memory needs; '
            f'install PyTorch {TESTED}'
        )


def _exists(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@contextlib.contextmanager
def shapes_only(device: torch.device) -> Iterator[None]:
    """Create tensors without values, and run forward and backward passes on them as on a device.

    Args:
        device: default device of new tensors; it need not exist.

    Raises:
        UserError: this PyTorch lacks a private part that this needs.
    """
    check_private_parts()
    from torch._subclasses.fake_tensor import FakeTensorMode

    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        # Mixed precision is otherwise disabled where there is no GPU.
        mock.patch('torch.cuda.amp.common.amp_definitely_not_available', return_value=False),
        mock.patch('torch.cuda.is_bf16_supported', return_value=True),
        backward_without_engine(),
        device,
        _AssumedValues(),
        _PythonCalls(),
    ):
        yield


class _AssumedValues(TorchDispatchMode):
    """Operators whose result depends on values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> object:
        """Run an operator, or its stand-in."""
        stand_in = _STAND_INS.get(func)
        return stand_in(func, *args, **(kwargs or {})) if stand_in else func(*args, **(kwargs or {}))


def _item(func: Callable, x: Tensor) -> bool | int | float:
    if x.dtype == torch.bool:
        return True
    return 1.0 if x.dtype.is_floating_point else 1


def _nonzero(func: Callable, x: Tensor) -> Tensor:
    return x.new_empty((x.numel(), x.dim()), dtype=torch.int64)


def _masked_select(func: Callable, x: Tensor, mask: Tensor) -> Tensor:
    shape = torch.broadcast_shapes(x.shape, mask.shape)
    return x.new_empty(shape.numel())


def _indexed(func: Callable, x: Tensor, indices: list[Tensor | None], *rest: object) -> Tensor:
    return func(x, _positions(indices), *rest)


def _positions(indices: list[Tensor | None]) -> list[Tensor | None]:
    """Replace every mask by the positions of its elements."""
    found = []
    for index in indices:
        if index is not None and index.dtype in (torch.bool, torch.uint8):
            found += _nonzero(aten.nonzero, index).unbind(1)
        else:
            found.append(index)
    return found


def _unique(func: Callable, x: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor, Tensor]:
    numbers = x.new_empty(x.shape, dtype=torch.int64)
    return x.new_empty(x.numel()), numbers, numbers.new_empty(x.numel())


def _nms(func: Callable, boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return scores.new_empty(scores.shape, dtype=torch.int64)


_STAND_INS = {
    aten._local_scalar_dense.default: _item,
    aten.equal.default: lambda func, x, other: True,
    aten.nonzero.default: _nonzero,
    aten.masked_select.default: _masked_select,
    aten.index.Tensor: _indexed,
    aten.index_put.default: _indexed,
    aten.index_put_.default: _indexed,
    aten._index_put_impl_.default: _indexed,
    aten._unique2.default: _unique,
    aten.unique_dim.default: _unique,
    torch.ops.torchvision.nms.default: _nms,
}


class _PythonCalls(TorchFunctionMode):
    """Functions that leave PyTorch, and attention, whose kernel is chosen by values of the device."""

    def __torch_function__(self, func, types, args=(), kwargs=None) -> object:
        """Call a function, or its stand-in."""
        kwargs = kwargs or {}
        if func is Tensor.numpy:
            return np.zeros(tuple(args[0].shape), str(args[0].dtype).removeprefix('torch.'))
        if func is Tensor.__deepcopy__:
            # PyTorch's would also copy the state of the mode that all tensors share.
            return args[0].clone()
        if func is F.scaled_dot_product_attention:
            return _attention(*args, **kwargs)
        return func(*args, **kwargs)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Compute attention with the kernel that keeps no weights, as GPUs do."""
    if query.device.type == 'cpu':
        return _attention_on_cpu(query, key, value, attn_mask, dropout_p, is_causal, scale)
    if torch.is_autocast_enabled('cuda'):
        dtype = torch.get_autocast_dtype('cuda')
        query, key, value = (tensor.to(dtype) for tensor in (query, key, value))
    if attn_mask is not None:
        attn_mask = _expanded_mask(attn_mask.to(query.dtype), query, key)
    return aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, True, dropout_p, is_causal, scale=scale
    )[0]


def _attention_on_cpu(query, key, value, mask, dropout_p, is_causal, scale) -> Tensor:
    if mask is not None and mask.requires_grad:
        return aten._scaled_dot_product_attention_math(
            query, key, value, mask, dropout_p, is_causal, scale=scale
        )[0]
    return aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, dropout_p, is_causal, attn_mask=mask, scale=scale
    )[0]


def _expanded_mask(mask: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Return a mask for every head, in memory with rows of a whole multiple of numbers."""
    length = mask.shape[-1]
    if length % _MASK_MULTIPLE:
        mask = F.pad(mask, (0, -length % _MASK_MULTIPLE))[..., :length]
    return mask.expand(*query.shape[:3], key.shape[2])
