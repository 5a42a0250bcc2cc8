"""Whether a call is recorded for later, and not just carried out."""

import torch

# Newer than the oldest PyTorch that the suite takes.
is_exporting = getattr(torch.compiler, 'is_exporting', torch.compiler.is_compiling)


def is_traced() -> bool:
    """Whether the compiler, or one of `in_a_graph_for_others`, sees the call."""
    return torch.compiler.is_compiling() or in_a_graph_for_others()


def in_a_graph_for_others() -> bool:
    """Whether the graph that is traced now may run elsewhere, or on other terms than autograd's own."""
    return (
        is_exporting()
        or torch.jit.is_tracing()
        or torch._C._functorch.peek_interpreter_stack() is not None
    )
