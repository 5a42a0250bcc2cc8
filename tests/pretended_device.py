"""A device that exists only in name: its tensors hold their values on the CPU and compute there.

Programs see a device other than the CPU, PyTorch's `meta`. An operation on tensors of both devices fails
as on a GPU, and every transfer between them is recorded. On a GPU each of these makes the CPU wait for
the device, apart from copies to it that are marked `non_blocking`.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import mmengine.runner.runner
import mmengine.structures.instance_data
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ROOT = Path(__file__).resolve().parent.parent
NAME = 'meta'
# Names of transfers: a value or a shape that Python needs, copies, and Python's numbers or indices.
VALUE, SHAPE, DOWNLOAD, UPLOAD = 'value', 'shape', 'to the CPU', 'to the device'
# Operations whose output has a data-dependent shape, without a tag that says so.
DYNAMIC_SHAPES = {'torchvision::nms'}
INDEXING = {'aten::index', 'aten::index_put', 'aten::index_put_', 'aten::_index_put_impl_'}
MASKS = (torch.bool, torch.uint8)
# Code that a transfer is not attributed to, but to its caller.
SKIPPED = ('/torch/', '/torchvision/', '/contextlib.py', __file__)


class MixedDevicesError(RuntimeError):
    """An operation got tensors of the CPU and of the device."""


@dataclass(frozen=True)
class Transfer:
    """A transfer between the CPU and the device.

    Attributes:
        kind: `VALUE`, `SHAPE`, `DOWNLOAD` or `UPLOAD`.
        file: file of the caller, from its package on, such as `mmdet/models/losses/accuracy.py`.
        function: name of the caller.
        waits: whether the CPU waits for the device.
    """

    kind: str
    file: str
    function: str
    waits: bool = True


class DeviceTensor(torch.Tensor):
    """A tensor on the device.

    Attributes:
        values: the same tensor on the CPU.
        is_number: whether it was made of a number of Python, which PyTorch leaves on the CPU on a GPU.
    """

    values: torch.Tensor
    is_number = False

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> 'DeviceTensor':
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=torch.device(NAME),
        )
        made.values = values
        return made

    @classmethod
    def __torch_function__(
        cls,
        func: Callable,
        types: Sequence[type],
        args: Sequence = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.Tensor.tolist:  # PyTorch refuses subclasses here.
            _record(VALUE)
            return args[0].values.tolist()
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(
        cls,
        func: Any,
        types: Sequence[type],
        args: Sequence = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _dispatch(func, args, kwargs or {})


class _Operations(TorchDispatchMode):
    """Creates tensors on the device, where operations without a `DeviceTensor` ask for it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {})


class _NumbersOfPython(TorchFunctionMode):
    """Creates tensors from Python's numbers, for which PyTorch dispatches nothing."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            place = args[1] if isinstance(args[1], tuple) else (args[1],)
            place = tuple(
                torch.tensor(each) if isinstance(each, (list, range)) else each for each in place
            )
            return func(args[0], place, *args[2:])
        if func is torch.Tensor.new_tensor:
            source, *args = args
            func = torch.tensor
            kwargs = {'dtype': source.dtype, 'device': source.device, **kwargs}
        if func in (torch.tensor, torch.as_tensor) and _is_device(kwargs.get('device')):
            del kwargs['device']
            return func(*args, **kwargs).to(NAME)
        return func(*args, **kwargs)


_transfers: list[Transfer] = []


@contextmanager
def pretended_device() -> Iterator[list[Transfer]]:
    """Make the device exist, also for mmengine's runner; yield the transfers so far."""
    instances = mmengine.structures.instance_data
    _transfers.clear()
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(mmengine.runner.runner, 'get_device', return_value=NAME))
        # It lists the types of tensors of each device.
        types = instances.IndexType | DeviceTensor
        stack.enter_context(mock.patch.object(instances, 'IndexType', types))
        stack.enter_context(_Operations())
        stack.enter_context(_NumbersOfPython())
        yield _transfers


def _dispatch(func: Any, args: Sequence, kwargs: Mapping[str, Any]) -> Any:
    """Run an operation on the CPU, as if on the devices of its tensors."""
    name = func.name().split('.')[0]
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
    ours = [each for each in tensors if isinstance(each, DeviceTensor)]
    if any(each.device.type == NAME and not isinstance(each, DeviceTensor) for each in tensors):
        raise NotImplementedError(f'{name} got a tensor that was created without an operation')
    if name in ('aten::_to_copy', 'aten::copy_'):
        return _copied(func, args, kwargs)
    if ours:
        _check_devices(name, args, tensors)
        if _waits(func, name, args):
            _record(VALUE if torch.Tag.data_dependent_output in func.tags else SHAPE)
    out = _computed(func, args, kwargs)
    if not (ours or _is_device(kwargs.get('device'))):
        return out
    # What an operation changes in place, it returns.
    known = {id(each.values): each for each in ours}

    def on_device(value: object) -> object:
        if not isinstance(value, torch.Tensor) or isinstance(value, DeviceTensor):
            return value
        made = known[id(value)] if id(value) in known else DeviceTensor(value)
        made.is_number = name == 'aten::scalar_tensor'
        return made

    return tree_map(on_device, out)


def _copied(func: Any, args: Sequence, kwargs: Mapping[str, Any]) -> torch.Tensor:
    """Convert a tensor to another device or dtype, or copy it into another tensor."""
    in_place = func.name().startswith('aten::copy_')
    source = args[1] if in_place else args[0]
    was_ours = isinstance(source, DeviceTensor)
    if in_place:
        is_ours = isinstance(args[0], DeviceTensor)
    else:
        wanted = kwargs.get('device')
        is_ours = was_ours if wanted is None else _is_device(wanted)
    out = _computed(func, args, kwargs)
    if was_ours != is_ours:
        # A copy to the CPU is incomplete until the CPU waits, whatever its mark.
        free = is_ours and bool(kwargs.get('non_blocking') or (in_place and args[2:] == (True,)))
        _record(UPLOAD if is_ours else DOWNLOAD, waits=not free)
    if in_place:
        return args[0]
    return DeviceTensor(out) if is_ours else out


def _computed(func: Any, args: Sequence, kwargs: Mapping[str, Any]) -> Any:
    def here(value: object) -> object:
        if isinstance(value, DeviceTensor):
            return value.values
        return torch.device('cpu') if isinstance(value, torch.device) and _is_device(value) else value

    return func(*tree_map(here, args), **tree_map(here, dict(kwargs)))


def _check_devices(name: str, args: Sequence, tensors: Sequence[torch.Tensor]) -> None:
    """Check that all tensors are on the device, apart from numbers, and from indices, which are copied.

    Raises:
        MixedDevicesError: they are not.
    """
    elsewhere = [each for each in tensors if not isinstance(each, DeviceTensor) and each.dim()]
    if name in INDEXING and isinstance(args[0], DeviceTensor):
        indices = {id(index) for index in args[1]}
        if any(id(each) in indices for each in elsewhere):
            _record(UPLOAD)
        elsewhere = [each for each in elsewhere if id(each) not in indices]
    if elsewhere:
        raise MixedDevicesError(f'{name} got a tensor on the CPU and one on the device')


def _waits(func: Any, name: str, args: Sequence) -> bool:
    """Return whether the result or its shape depends on the data, so that the CPU waits for it."""
    if name in INDEXING:
        has_mask = any(isinstance(each, torch.Tensor) and each.dtype in MASKS for each in args[1])
        # PyTorch fills masks with numbers without counting their elements.
        return has_mask and not (len(args) > 2 and _is_number(args[2]))
    tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    return bool(tags & set(func.tags)) or name in DYNAMIC_SHAPES


def _is_number(value: torch.Tensor) -> bool:
    return not value.dim() and (value.is_number if isinstance(value, DeviceTensor) else True)


def _is_device(device: object) -> bool:
    return device is not None and torch.device(device).type == NAME


def _record(kind: str, waits: bool = True) -> None:
    frame = sys._getframe(1)
    while frame.f_back and any(part in frame.f_code.co_filename for part in SKIPPED):
        frame = frame.f_back
    file = frame.f_code.co_filename.split('site-packages/')[-1].removeprefix(f'{ROOT}/')
    _transfers.append(Transfer(kind, file, frame.f_code.co_name, waits))
