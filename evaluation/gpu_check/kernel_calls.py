"""Calls of every Triton operator with meta tensors, and bounds on what the kernels need.

To cover a new operator, write a function that calls it with meta tensors of a typical size, and add a
line to `CASES` for each dtype. More registers or spilled bytes than stated mean fewer programs on each
multiprocessor, or slower ones: measure before raising a bound.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from backbones.ops.triton import (
    dcnv3,
    dcnv4,
    depthwise,
    neighborhood_attention,
    selective_scan,
)
from evaluation.gpu_check.ahead_of_time import Resources

# A100, H100 and B200; the bounds hold for these, compiled by Triton 3.6.
CAPABILITIES = (80, 90, 100)
# Version of Triton that the bounds are for.
BOUNDED_VERSION = '3.6'
BF16, FP32 = torch.bfloat16, torch.float32
DTYPE_NAMES = {BF16: 'bf16', FP32: 'fp32'}


def empty(*size: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(size, dtype=dtype, device='meta')


def dcnv3_inputs(dtype):
    """Return value, offsets and logits of the first stage of dcn_tiny at 512x800."""
    size = (2, 128, 200, 4)
    return [empty(*size, *rest, dtype=dtype) for rest in ((16,), (9, 2), (9,))]


def dcnv3_forward(dtype):
    dcnv3.forward(*dcnv3_inputs(dtype), 3)


def dcnv3_backward(dtype):
    value, *points = dcnv3_inputs(dtype)
    dcnv3.backward(value, value, *points, 3)


def depthwise_forward(dtype):
    """Run the first stage of replk_tiny at 512x800."""
    weight, bias = (empty(*size, dtype=FP32) for size in ((64, 1, 31, 31), (64,)))
    depthwise.forward(empty(2, 128, 200, 64, dtype=dtype), weight, bias)


def depthwise_weight_gradient(dtype):
    x = empty(2, 128, 200, 64, dtype=dtype)
    depthwise.weight_gradient(x, x, 31)


def neighborhood_attention_inputs(dtype):
    """Return q, k, v and rpb of the first stage of nat_tiny at 512x800."""
    qkv = empty(2, 128, 200, 3, 2, 32, dtype=dtype)
    return [*qkv.unbind(3), empty(2, 13, 13, dtype=FP32)]


def neighborhood_attention_forward(dtype):
    neighborhood_attention.forward(*neighborhood_attention_inputs(dtype), 7, 1)


def neighborhood_attention_backward(dtype):
    inputs = neighborhood_attention_inputs(dtype)
    out, log_sums = empty(2, 128, 200, 2, 32, dtype=dtype), empty(2, 128, 200, 2, dtype=FP32)
    neighborhood_attention.backward(out, *inputs, out, log_sums, 7, 1)


def dcnv4_inputs(dtype):
    """Return value and offset_mask of the first stage of a tiny network at 512x800."""
    size = (2, 128, 200)
    return empty(*size, 4, 16, dtype=dtype), empty(*size, 112, dtype=dtype)


def dcnv4_forward(dtype):
    dcnv4.forward(*dcnv4_inputs(dtype), 3, 1.0)


def dcnv4_backward(dtype):
    value, offset_mask = dcnv4_inputs(dtype)
    dcnv4.backward(value, value, offset_mask, 3, 1.0)


def selective_scan_inputs(dtype, dim=64, rank=4, states=1):
    """Return the inputs of the first stage of ss2d_tiny at 512x800."""
    maps = [empty(2, 128, 200, *size, dtype=dtype) for size in ((dim,), (4, rank + 2 * states))]
    weights = ((4, dim, rank), (4, dim), (4 * dim, states), (4 * dim,))
    return [*maps, *(empty(*size, dtype=FP32) for size in weights)]


def selective_scan_forward(dtype, **sizes):
    return selective_scan.forward(*selective_scan_inputs(dtype, **sizes))


def selective_scan_backward(dtype, **sizes):
    inputs = selective_scan_inputs(dtype, **sizes)
    states = empty(2, 4, 400, inputs[4].shape[1], inputs[0].shape[3], dtype=FP32)
    selective_scan.backward(inputs[0].float(), states, *inputs)


def selective_scan_forward_of_many_channels(dtype):
    """Run the largest rank: 48, in the last stage of ss2d_base."""
    selective_scan_forward(dtype, dim=768, rank=48)


def selective_scan_backward_of_large_states(dtype):
    selective_scan_backward(dtype, states=16)


@dataclass(frozen=True)
class Case:
    """A call of an operator, and bounds on the resources of each kernel that it launches.

    Attributes:
        call: calls the operator with tensors of a dtype.
        dtype: the dtype.
        bounds: bounds by name of the kernel.
        bounds_on: bounds for a capability that differ from `bounds`, by name of the kernel.
    """

    call: Callable[[torch.dtype], object]
    dtype: torch.dtype
    bounds: Mapping[str, Resources]
    bounds_on: Mapping[int, Mapping[str, Resources]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f'{self.call.__name__}, {DTYPE_NAMES[self.dtype]}'

    def bounds_for(self, capability: int) -> Mapping[str, Resources]:
        """Return the bounds of a capability by name of the kernel; none if it has no stated bounds."""
        if capability not in CAPABILITIES:
            return {}
        return {**self.bounds, **self.bounds_on.get(capability, {})}


# With one warp per program, 64 registers let as many programs run at once as a multiprocessor takes.
# Few programs combine chunks.
SELECTIVE_SCAN_FORWARD = {
    'scan_chunks': Resources(registers=64),
    'combine_chunks': Resources(registers=96),
    'forward': Resources(registers=64),
}
SELECTIVE_SCAN_BACKWARD = {
    'backward_chunks': Resources(registers=64),
    'combine_chunks': Resources(registers=96),
    'backward': Resources(registers=72),
}
CASES = [
    Case(dcnv3_forward, BF16, {'forward': Resources(registers=48, shared=512)}),
    Case(dcnv3_forward, FP32, {'forward': Resources(registers=48, shared=512)}),
    Case(dcnv3_backward, BF16, {'backward': Resources(registers=96, shared=4096)}),
    Case(dcnv3_backward, FP32, {'backward': Resources(registers=96, shared=4096)}),
    Case(depthwise_forward, BF16, {'forward': Resources(registers=112)}),
    Case(depthwise_forward, FP32, {'forward': Resources(registers=96)}),
    Case(depthwise_weight_gradient, BF16, {'weight_gradient': Resources(registers=96, shared=512)}),
    Case(depthwise_weight_gradient, FP32, {'weight_gradient': Resources(registers=112, shared=512)}),
    # On sm_100 with fewer registers and more shared memory.
    Case(
        neighborhood_attention_forward,
        BF16,
        {'forward': Resources(registers=128, shared=8192)},
        {100: {'forward': Resources(registers=96, shared=10240)}},
    ),
    # With 8 warps, so that 80 registers let three programs run at once, and 128 two.
    Case(
        neighborhood_attention_forward,
        FP32,
        {'forward': Resources(registers=80, spilled=16, shared=20480)},
    ),
    Case(
        neighborhood_attention_backward,
        BF16,
        {
            'backward_queries': Resources(registers=176, shared=25600),
            'backward_keys': Resources(registers=216, shared=14336),
        },
        {100: {'backward_keys': Resources(registers=160, shared=16384)}},
    ),
    Case(
        neighborhood_attention_backward,
        FP32,
        {
            'backward_queries': Resources(registers=128, spilled=32, shared=33792),
            'backward_keys': Resources(registers=128, spilled=24, shared=40960),
        },
    ),
    Case(dcnv4_forward, BF16, {'forward': Resources(registers=64)}),
    Case(dcnv4_forward, FP32, {'forward': Resources(registers=48)}),
    Case(dcnv4_backward, BF16, {'backward': Resources(registers=96, shared=4096)}),
    Case(dcnv4_backward, FP32, {'backward': Resources(registers=96, shared=4096)}),
    *(Case(selective_scan_forward, dtype, SELECTIVE_SCAN_FORWARD) for dtype in (BF16, FP32)),
    *(Case(selective_scan_backward, dtype, SELECTIVE_SCAN_BACKWARD) for dtype in (BF16, FP32)),
    Case(
        selective_scan_forward_of_many_channels,
        BF16,
        {
            'scan_chunks': Resources(registers=128),
            'combine_chunks': Resources(registers=96),
            'forward': Resources(registers=128),
        },
    ),
    Case(
        selective_scan_backward_of_large_states,
        BF16,
        {
            'backward_chunks': Resources(registers=64),
            'combine_chunks': Resources(registers=96),
            'backward': Resources(registers=128),
        },
        {
            100: {
                'backward_chunks': Resources(registers=72),
                'backward': Resources(registers=168),
            }
        },
    ),
]
