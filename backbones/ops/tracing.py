"""Detect whether the current call is being traced."""

import warnings

import torch

# Missing from the oldest supported PyTorch.
is_exporting = getattr(torch.compiler, 'is_exporting', torch.compiler.is_compiling)
# Private: the stack of transforms such as `torch.func.grad`.
peek_at_transforms = getattr(getattr(torch._C, '_functorch', None), 'peek_interpreter_stack', None)
if peek_at_transforms is None:
    warnings.warn(
        'the mixers are slower on the CPU: this PyTorch does not tell whether torch.func is active',
        stacklevel=2,
    )


def is_traced() -> bool:
    """Return whether the compiler, or a tracer of `in_a_graph_for_others`, traces this call."""
    return torch.compiler.is_compiling() or in_a_graph_for_others()


def in_a_graph_for_others() -> bool:
    """Return whether this call is traced for export, by `torch.jit`, or by a `torch.func` transform."""
    return (
        is_exporting()
        or torch.jit.is_tracing()
        # If this is unknown, assume it is: plain PyTorch is always correct.
        or peek_at_transforms is None
        or peek_at_transforms() is not None
    )
