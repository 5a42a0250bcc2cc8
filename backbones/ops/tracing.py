"""Ask whether a call is recorded for later, and not just carried out."""

import warnings

import torch

# Missing from the oldest supported PyTorch.
is_exporting = getattr(torch.compiler, 'is_exporting', torch.compiler.is_compiling)
# Private: the stack of transforms such as `torch.func.grad`.
peek_at_transforms = getattr(getattr(torch._C, '_functorch', None), 'peek_interpreter_stack', None)
if peek_at_transforms is None:
    warnings.warn(
        'the mixers are slower on the CPU: this PyTorch does not say whether torch.func is at work',
        stacklevel=2,
    )


def is_traced() -> bool:
    """Whether the compiler, or one of `in_a_graph_for_others`, sees the call."""
    return torch.compiler.is_compiling() or in_a_graph_for_others()


def in_a_graph_for_others() -> bool:
    """Whether the graph that is traced now may run elsewhere, or on other terms than autograd's own."""
    return (
        is_exporting()
        or torch.jit.is_tracing()
        # Where this cannot be known, plain PyTorch is right for all.
        or peek_at_transforms is None
        or peek_at_transforms() is not None
    )
