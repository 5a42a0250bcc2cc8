"""Running sum of the memory of all tensors that exist."""

import weakref
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# The allocator for GPUs rounds sizes up to multiples of this.
GPU_BLOCK = 512


class LiveMemory(TorchDispatchMode):
    """Sum and maximum of the bytes of all tensors on a device that operators create while it is active.

    Tensors that share memory count once. Memory that a kernel allocates and frees within one operator
    is not seen.

    Args:
        device: device whose tensors count, real or not.
        existing: tensors that exist before, and do not count.

    Attributes:
        now: bytes of the tensors that exist.
        peak: maximum of `now`.
    """

    def __init__(self, device: torch.device, existing: Iterable[Tensor]) -> None:
        super().__init__()
        self._device = device.type
        self._block = 1 if device.type == 'cpu' else GPU_BLOCK
        self._known: dict[int, weakref.ref] = {}
        self.now = self.peak = 0
        for tensor in existing:
            self._enter(tensor, counts=False)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> object:
        """Run an operator, and count new memory of its outputs."""
        outputs = func(*args, **(kwargs or {}))
        for output in tree_leaves(outputs):
            if isinstance(output, Tensor) and output.device.type == self._device:
                self._enter(output)
        return outputs

    def _enter(self, tensor: Tensor, counts: bool = True) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = -(-storage.nbytes() // self._block) * self._block if counts else 0
        self._known[key] = weakref.ref(storage, lambda _: self._leave(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _leave(self, key: int, size: int) -> None:
        del self._known[key]
        self.now -= size
