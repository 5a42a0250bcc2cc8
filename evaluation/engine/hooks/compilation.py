"""`--compile`: run the parts of a model through `torch.compile`, in place."""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch._dynamo.utils import counters

from evaluation.models.model_weights import unwrapped
from evaluation.utils.errors import UserError

# Parts that compute only on tensors. Between them boxes are sampled and suppressed, in data-dependent
# numbers, so a graph of the whole model would break there anyway.
PARTS = (
    'backbone',
    'neck',
    'rpn_head',
    'roi_head.bbox_head',
    'roi_head.mask_head',
    'decode_head',
    'auxiliary_head',
)
TIMED_PASSES = 3
# The first one generates code; the others help to find the cause when it fails.
BACKENDS = ('inductor', 'aot_eager', 'eager')


@HOOKS.register_module()
class CompileHook(Hook):
    """Compiles the tensor parts of a detector or segmentor before the first step.

    A part is compiled for the first size that it gets, then once for all other sizes. Names in
    checkpoints do not change. After the run, the number of graphs and the speedup of the backbone are
    logged.

    Args:
        backend: backend of `torch.compile`.
    """

    # After the EMA hook has copied the model, so that the copy runs with its own weights.
    priority = 'LOWEST'

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self._plain_forward: Callable | None = None
        self._image_shape: tuple[int, ...] | None = None
        self._graphs_before = 0

    def before_run(self, runner: Runner) -> None:
        """Set up compilation, which happens at the first call of each part."""
        model = parts_of(runner.model)
        self._graphs_before = counters['stats']['unique_graphs']
        self._plain_forward = model.backbone.forward
        for part in compilable(model):
            part.forward = torch.compile(part.forward, backend=self.backend)
        model.backbone.register_forward_pre_hook(self._note_shape)

    def after_run(self, runner: Runner) -> None:
        """Log the number of graphs and the speedup of the backbone."""
        graphs = counters['stats']['unique_graphs'] - self._graphs_before
        backbone = parts_of(runner.model).backbone.eval()
        plain, compiled = forward_seconds(backbone, self._plain_forward, self._image_shape)
        print_log(
            f'torch.compile ({self.backend}): {graphs} graphs; forward pass of the backbone on '
            f'{"x".join(map(str, self._image_shape))}: {1e3 * compiled:.1f} ms, not compiled '
            f'{1e3 * plain:.1f} ms ({plain / compiled:.2f} times as fast)',
            logger='current',
        )

    def _note_shape(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._image_shape = tuple(inputs[0].shape)


def add_compile_option(parser: argparse.ArgumentParser) -> None:
    """Add `--compile`."""
    parser.add_argument(
        '--compile',
        nargs='?',
        const='inductor',
        metavar='BACKEND',
        help='compile backbone, neck and heads; backends other than inductor are for debugging',
    )


def use_compiler(cfg: Config, backend: str) -> None:
    """Add a `CompileHook` to a config.

    Raises:
        UserError: the backend is unknown, or cannot compile on this machine.
    """
    if backend not in BACKENDS:
        raise UserError(f'--compile {backend}: choose from {", ".join(BACKENDS)}')
    check_compiler(backend)
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='CompileHook', backend=backend)]


def check_compiler(backend: str) -> None:
    """Compile a small function, so that a missing compiler is reported before data are loaded.

    Raises:
        UserError: compilation fails; the message has the reason.
    """
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        torch.compile(lambda x: x.sin() + 1, backend=backend)(torch.ones(8, device=device))
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f'--compile: {backend} cannot compile on this machine ({reason}); install a C++ compiler '
            'such as g++, and Triton for a GPU, or omit --compile'
        ) from error


def parts_of(model: nn.Module) -> nn.Module:
    """Return the detector or segmentor without its wrappers."""
    model = unwrapped(model)
    return model.module if isinstance(model, BaseTTAModel) else model


def compilable(model: nn.Module) -> list[nn.Module]:
    """Return the modules of `PARTS` that a model has."""
    names = {name for name, _ in model.named_modules()}
    return [model.get_submodule(part) for part in PARTS if part in names]


@torch.no_grad()
def forward_seconds(module: nn.Module, plain: Callable, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return the median seconds of a forward pass, not compiled and compiled.

    Args:
        module: compiled module in eval mode.
        plain: forward function of the module before it was compiled.
        shape: shape of the images, (B, 3, H, W).
    """
    device = next(module.parameters()).device
    images = torch.zeros(shape, device=device)

    def seconds(call: Callable) -> float:
        started = time.perf_counter()
        call(images)
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    calls = (plain, module.forward)
    for call in calls:
        seconds(call)
    return tuple(statistics.median(seconds(call) for _ in range(TIMED_PASSES)) for call in calls)
