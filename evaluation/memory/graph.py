"""Backward pass over autograd's graph, one node after another.

PyTorch's engine needs a GPU to run the graph of tensors that claim to be on one. This one calls the same
nodes in the same order without it.
"""

import contextlib
import functools
import heapq
from collections.abc import Iterator, Sequence
from unittest import mock

import torch
from torch import Tensor
from torch.autograd.graph import Node, saved_tensors_hooks

# Any constant: `torch.utils.checkpoint` recomputes a block once for each ID of a backward pass.
_ID_OF_PASS = 1
# Name of the nodes that add to the gradient of a leaf.
_LEAF = 'AccumulateGrad'


@contextlib.contextmanager
def backward_without_engine() -> Iterator[None]:
    """Replace PyTorch's engine in `Tensor.backward` and `torch.autograd.backward`.

    Enter this before the forward pass. Saved tensors are freed as in PyTorch, when their node has run.
    """
    saved = _SavedTensors()
    replacement = functools.partial(_backward, saved)
    with (
        saved_tensors_hooks(saved.pack, saved.unpack),
        mock.patch('torch.autograd.backward', replacement),
    ):
        yield


class _Saved:
    """A tensor that a node saved; None once the node has run."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor: Tensor | None = tensor


class _SavedTensors:
    """Tensors that nodes save. Nodes cannot be told to free them, and live as long as any output."""

    def __init__(self) -> None:
        self._used: list[_Saved] = []

    def pack(self, tensor: Tensor) -> _Saved:
        """Save a tensor."""
        return _Saved(tensor)

    def unpack(self, saved: _Saved) -> Tensor:
        """Return a saved tensor to its node."""
        self._used.append(saved)
        return saved.tensor

    def free_used(self) -> None:
        """Free the tensors that nodes have taken so far."""
        for saved in self._used:
            saved.tensor = None
        self._used.clear()


def _backward(
    saved: _SavedTensors,
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Sequence[Tensor] | None = None,
) -> None:
    """Add gradients to the leaves, as `torch.autograd.backward` does.

    Args:
        saved: tensors that the nodes saved.
        tensors: outputs to differentiate.
        grad_tensors: their gradients; None for scalars.
        retain_graph, create_graph, inputs: not supported.

    Raises:
        NotImplementedError: an option is not supported.
    """
    if retain_graph or create_graph or inputs is not None:
        raise NotImplementedError('retain_graph, create_graph and inputs are not supported')
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    grads = [grad_tensors] if isinstance(grad_tensors, Tensor) else grad_tensors or [None] * len(tensors)
    queue = _Queue(saved)
    with (
        torch.no_grad(),
        mock.patch('torch._C._current_graph_task_id', return_value=_ID_OF_PASS),
    ):
        for tensor, grad in zip(tensors, grads, strict=True):
            if tensor.grad_fn is not None:
                start = torch.ones_like(tensor) if grad is None else grad
                queue.add(tensor.grad_fn, tensor.output_nr, start)
        del grads, grad_tensors
        queue.run()


class _Queue:
    """Nodes that have received gradients, the latest of the forward pass first.

    A node comes later than those it depends on, so all its gradients have arrived when it is first.
    """

    def __init__(self, saved: _SavedTensors) -> None:
        self._saved = saved
        self._order: list[int] = []
        self._waiting: dict[int, tuple[Node, list[Tensor | None]]] = {}

    def add(self, node: Node, index: int, grad: Tensor) -> None:
        """Add the gradient of one output of a node's operator."""
        grad = _fitted(grad, node._input_metadata[index])
        if node.name().endswith(_LEAF):
            _accumulate(node.variable, grad)
            return
        number = node._sequence_nr()
        if number not in self._waiting:
            self._waiting[number] = node, [None] * len(node._input_metadata)
            heapq.heappush(self._order, -number)
        _, grads = self._waiting[number]
        grads[index] = grad if grads[index] is None else grads[index] + grad

    def run(self) -> None:
        """Run all nodes and those that they lead to."""
        while self._order:
            node, grads = self._waiting.pop(-heapq.heappop(self._order))
            found = list(_call(node, grads))
            self._saved.free_used()
            targets = node.next_functions
            del grads
            for index, (target, output) in enumerate(targets):
                grad, found[index] = found[index], None
                if target is not None and grad is not None:
                    self.add(target, output, grad)
                del grad


def _call(node: Node, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
    """Return the gradients of the inputs of a node's operator."""
    if isinstance(node, torch.autograd.function.BackwardCFunction):
        if getattr(node, 'materialize_grads', True):
            grads = [
                _zeros(metadata) if grad is None else grad
                for grad, metadata in zip(grads, node._input_metadata, strict=True)
            ]
        found = node.apply(*grads)
    else:
        found = node(*grads)
    return found if isinstance(found, tuple) else (found,)


def _zeros(metadata: object) -> Tensor:
    return torch.zeros(tuple(metadata.shape), dtype=metadata.dtype, device=metadata.device)


def _fitted(grad: Tensor, metadata: object) -> Tensor:
    """Return a gradient in the shape and dtype of its tensor, as PyTorch's engine does."""
    shape = tuple(metadata.shape)
    grad = grad if tuple(grad.shape) == shape else grad.sum_to_size(shape)
    return grad if grad.dtype == metadata.dtype else grad.to(metadata.dtype)


def _accumulate(leaf: Tensor, grad: Tensor) -> None:
    if leaf.grad is None:
        # An expanded gradient cannot be added to.
        leaf.grad = grad.clone() if 0 in grad.stride() else grad.detach()
    else:
        leaf.grad += grad
