"""Which modules of a model `torch.compile` sees, each by itself, and with which settings.

A graph of the whole would break between these modules, where boxes are sampled and suppressed. One of
the whole backbone would hold, but its sizes would be nested expressions of the image's, which take the
compiler minutes; a block's are its own map's, and blocks that differ in their weights alone share a
graph.
"""

import torch
import torch._dynamo
import torch.fx.experimental._config
from torch import nn

from backbones import UnifiedBackbone

# Modules that a detector calls, whole.
WHOLE = ('neck', 'rpn_head', 'roi_head.bbox_head', 'roi_head.mask_head')
# Heads whose pooling to a fixed size would be compiled anew for every size of map, and whose `forward` a
# segmentor calls past what `nn.Module.compile` compiles: what is within them, module by module.
PIECEWISE = ('decode_head', 'auxiliary_head')
PIECE = 'ConvModule'

# Of one function, for dims, sizes of one token, training and evaluation.
MOST_GRAPHS = 64
INDUCTOR_OPTIONS = {
    # It would lay out (B, H, W, C) tensors anew for convolutions that see them through a view, in fixed
    # sizes, and then fail on others.
    'layout_optimization': False,
    # Drop path and dropout draw what they draw without the compiler.
    'fallback_random': True,
}


def compile_model(model: nn.Module, backend: str) -> None:
    """Compile the regions of a model in place; its structure and the names of its weights stay.

    Code is generated at the first call of each region.

    Args:
        model: a detector or segmentor.
        backend: of `torch.compile`.
    """
    set_up_compiler()
    options = INDUCTOR_OPTIONS if backend == 'inductor' else None
    for region in own_regions(model):
        region.compile(backend=backend, dynamic=True, fullgraph=True, options=options)
    for region in other_regions(model):
        region.compile(backend=backend, dynamic=True, options=options)


def own_regions(model: nn.Module) -> list[nn.Module]:
    """Stem, downsamplings and blocks of the suite's own backbone, if a model has it: a graph each."""
    backbone = model.backbone
    if not isinstance(backbone, UnifiedBackbone):
        return []
    blocks = (block for stage in backbone.stages for block in stage)
    return [backbone.stem, *backbone.downsamples, *blocks]


def other_regions(model: nn.Module) -> list[nn.Module]:
    """What other libraries have written, in which a graph may break."""
    modules = dict(model.named_modules())
    whole = [modules[name] for name in WHOLE if name in modules]
    if not isinstance(model.backbone, UnifiedBackbone):
        whole.append(model.backbone)
    heads = [modules[name] for name in PIECEWISE if name in modules]
    return whole + [piece for head in heads for piece in pieces_of(head)]


def pieces_of(head: nn.Module) -> list[nn.Module]:
    """Its convolutions with norm and activation, but for those that wait for other processes."""
    return [
        module
        for module in head.modules()
        if type(module).__name__ == PIECE
        and not any(isinstance(part, nn.SyncBatchNorm) for part in module.modules())
    ]


def set_up_compiler() -> None:
    """Make PyTorch's compiler, in this process, take sizes as they come."""
    # Else a square first image makes a graph for square ones.
    torch.fx.experimental._config.use_duck_shape = False
    torch._dynamo.config.recompile_limit = MOST_GRAPHS
    # It splits graphs for gradients to be exchanged early, which small regions are anyway, and cannot
    # split those with recomputation in them.
    torch._dynamo.config.optimize_ddp = False
