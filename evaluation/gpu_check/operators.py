"""Stage `operators`: outputs and gradients compared with plain PyTorch in float64.

Every operator runs in float32, float16 and bfloat16, with sizes that no block divides, with strided
inputs and with empty ones. The truth is the reference implementation on the same rounded inputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from backbones.ops import attention, depthwise, linear_attention, neighborhood_attention, selective_scan
from backbones.ops.dcnv3 import dcnv3
from backbones.ops.dcnv4 import dcnv4, offset_mask_channels
from evaluation.benchmark.passes import DTYPES
from evaluation.gpu_check.checks import (
    Check,
    Settings,
    SkippedCheckError,
    check_errors,
    check_instructions,
    named,
)

# Largest error, relative to the largest value of a tensor.
BOUNDS = {'fp32': 1e-4, 'fp16': 8 * 2**-10, 'bf16': 8 * 2**-7}
# (B, H, W): no side is a multiple of a block of a kernel.
MAP = (2, 19, 23)
WINDOW = 7
# More elements than 32 bits can index, of which the last image is compared.
LARGE_MAP = (9, 512, 512, 1024)
# Three copies of the large map in bfloat16, and the rest.
LARGE_BYTES = 20 * 2**30


@dataclass(frozen=True)
class Case:
    """An operator with inputs.

    Attributes:
        name: name of the operator.
        compute: the operator, as a function of its tensors.
        tensors: shapes of the tensors, in order.
        maps: number of leading tensors that get the dtype under test; the others are parameters, which
            stay in float32.
    """

    name: str
    compute: Callable[..., Tensor]
    tensors: dict[str, tuple[int, ...]]
    maps: int


def cases(size: tuple[int, int, int]) -> list[Case]:
    """Return every operator of the mixers for maps of a size (B, H, W)."""
    batch, height, width = size
    heads, dim, side = 3, 20, 3
    points = side**2
    tokens = (*size, heads, dim)
    qkv = {'q': tokens, 'k': tokens, 'v': tokens}
    whole = tuple(-(-length // WINDOW) * WINDOW for length in (height, width))
    windows = dict.fromkeys(qkv, (batch, *whole, heads, dim))
    relative = (2 * (WINDOW + 2 * 3) - 1, dim)
    channels, rank, states = 2 * dim, 5, 1
    return [
        Case(
            'dcnv3',
            lambda value, offsets, logits: dcnv3(value, offsets, logits, side),
            {'value': tokens, 'offsets': (*size, heads, points, 2), 'logits': (*size, heads, points)},
            3,
        ),
        Case(
            'dcnv4',
            lambda value, offset_mask: dcnv4(value, offset_mask, side, 1.0),
            {'value': tokens, 'offset_mask': (*size, offset_mask_channels(heads, side))},
            2,
        ),
        *(
            Case(
                f'depthwise convolution {kernel}x{kernel}',
                depthwise.depthwise_convolution,
                {'x': (*size, channels), 'weight': (channels, 1, kernel, kernel), 'bias': (channels,)},
                1,
            )
            for kernel in (7, 31)
        ),
        Case(
            'neighborhood attention',
            lambda q, k, v, rpb: neighborhood_attention.neighborhood_attention(q, k, v, rpb, 7, 2),
            {**qkv, 'rpb': (heads, 13, 13)},
            3,
        ),
        Case(
            'selective scan',
            selective_scan.selective_scan,
            {
                'u': (*size, channels),
                'projected': (*size, 4, rank + 2 * states),
                'step_weight': (4, channels, rank),
                'step_bias': (4, channels),
                'a_logs': (4 * channels, states),
                'skips': (4 * channels,),
            },
            2,
        ),
        Case(
            'halo attention',
            lambda *tensors: attention.halo_attention(*tensors, WINDOW, 3),
            {**qkv, 'height_rel': relative, 'width_rel': relative},
            5,
        ),
        Case(
            'window attention',
            lambda *tensors: attention.window_attention(*tensors, WINDOW, WINDOW // 2),
            {**windows, 'bias': (heads, WINDOW**2, WINDOW**2)},
            4,
        ),
        Case(
            'global attention',
            attention.global_attention,
            {
                'q': (batch, height * width, heads, dim),
                **dict.fromkeys(('k', 'v'), (batch, height, heads, dim)),
            },
            3,
        ),
        Case(
            'linear attention',
            lambda qk, v: linear_attention.linear_attention(
                qk,
                v,
                *linear_attention.rotation_tables(*qk.shape[1:3], heads * dim, qk.device, qk.dtype),
                heads,
            ),
            {'qk': (*size, 2 * heads * dim), 'v': (*size, heads * dim)},
            2,
        ),
    ]


def checks(settings: Settings) -> list[Check]:
    """Return the checks of the stage."""
    device = torch.device(settings.device)
    dtypes = ['fp32'] if settings.quick else list(BOUNDS)
    found = [
        Check(f'{case.name}, {dtype}', partial(compare, case, device, dtype))
        for dtype in dtypes
        for case in cases(MAP)
    ]
    for case in cases(MAP):
        run = partial(compare, case, device, 'fp32', is_strided=True)
        found.append(Check(f'{case.name}, strided', run))
    for case in cases((0, *MAP[1:])):
        found.append(Check(f'{case.name}, no images', partial(compare, case, device, 'fp32')))
    found.append(Check('depthwise convolution, over 2^31 elements', partial(compare_large, device)))
    return found


def compare(case: Case, device: torch.device, dtype: str, is_strided: bool = False) -> dict[str, object]:
    """Compare output and gradients with those of float64.

    Raises:
        FailedCheckError: an error is above the bound of the dtype.
        SkippedCheckError: the CPU has no instructions for the dtype.
    """
    check_instructions(device, dtype)
    tensors = inputs(case, device, DTYPES[dtype], is_strided)
    found = output_and_gradients(case.compute, tensors)
    truth = output_and_gradients(case.compute, [tensor.double() for tensor in tensors])
    errors = named(['output', *case.tensors], found, truth)
    return check_errors(errors, BOUNDS[dtype])


def inputs(case: Case, device: torch.device, dtype: torch.dtype, is_strided: bool) -> list[Tensor]:
    """Return random tensors, the same on any device; strided ones are not contiguous."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for number, (name, shape) in enumerate(case.tensors.items()):
        tensor = torch.randn(shape, generator=generator)
        tensor = tensor.to(device, dtype if number < case.maps else torch.float32)
        if name.startswith('offset'):
            # At the center of a pixel, bilinear sampling has a different derivative on each side.
            tensor = torch.where(tensor == tensor.round(), tensor + 0.5, tensor)
        if is_strided and tensor.dim() > 2:
            tensor = tensor.transpose(1, 2).contiguous().transpose(1, 2)
        found.append(tensor)
    return found


def output_and_gradients(compute: Callable[..., Tensor], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the output, then the gradients for a random gradient of the output."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    out = compute(*leaves)
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn(out.shape, generator=generator).to(out.device, out.dtype)
    return [out, *torch.autograd.grad(out, leaves, grad)]


def compare_large(device: torch.device) -> dict[str, object]:
    """Compare the last image of a map of more than 2^31 elements with the same image alone.

    Raises:
        FailedCheckError: they differ.
        SkippedCheckError: the device is a CPU or has too little free memory.
    """
    if device.type == 'cpu':
        raise SkippedCheckError('indices of the CPU always have 64 bits')
    free, _ = torch.cuda.mem_get_info(device)
    if free < LARGE_BYTES:
        raise SkippedCheckError(
            f'needs {LARGE_BYTES / 2**30:.0f} GiB of free memory, found {free / 2**30:.0f}'
        )
    weight = torch.randn(LARGE_MAP[-1], 1, 3, 3, device=device)
    x = torch.randn(1, *LARGE_MAP[1:], device=device, dtype=torch.bfloat16)
    with torch.no_grad():
        alone = depthwise.depthwise_convolution(x, weight)
        last = depthwise.depthwise_convolution(x.expand(LARGE_MAP).contiguous(), weight)[-1:]
    return check_errors(named(['last image'], [last], [alone]), 0.0)
