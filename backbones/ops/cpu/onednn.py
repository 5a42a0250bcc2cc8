"""Linear layers by oneDNN through a private PyTorch operator, on processors on which it is faster.

PyTorch multiplies float32 matrices with MKL, which is made for Intel processors and uses AVX-512 only on
them. On other processors oneDNN, which PyTorch uses for half precision, computes the same products
faster. On AMD it is 10% faster for wide layers with AVX2 (Zen 3), 10% faster for all layers and more for
narrow ones with AVX-512 in two steps (Zen 4), and twice as fast with AVX-512 in one step (Zen 5).
"""

import functools
import platform
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

# Not in every build of PyTorch.
IS_BUILT = torch.backends.mkldnn.is_available()
HAS_OPERATOR = IS_BUILT and hasattr(torch.ops.mkldnn, '_linear_pointwise')
NO_ACTIVATION, GELU = ('none', [], ''), ('gelu', [], 'none')


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool = False) -> Tensor:
    """Compute `F.linear`, followed by GELU if `gelu` is True; not differentiable."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, *(GELU if gelu else NO_ACTIVATION))


@torch.compiler.assume_constant_result
def works() -> bool:
    """Return whether the private operator exists and gives correct results."""
    return IS_BUILT and _agrees_with_pytorch()


@functools.cache
def _agrees_with_pytorch() -> bool:
    try:
        # Autocast, gradients and counters of operators are settings of the calling thread.
        with ThreadPoolExecutor(1) as other_thread:
            same = other_thread.submit(_same_as_pytorch).result()
        reason = '' if same else 'its results differ from F.linear'
    # Any exception is acceptable here, since `F.linear` is the fallback.
    except Exception as error:
        reason = str(error).splitlines()[0]
    if reason:
        warnings.warn(
            f"linear layers on the CPU may be slower: PyTorch's private oneDNN operator cannot be used "
            f'({reason})',
            stacklevel=3,
        )
    return not reason


@torch.no_grad()
def _same_as_pytorch() -> bool:
    x, weight = torch.linspace(-2, 2, 6).view(2, 3), torch.linspace(-1, 1, 12).view(4, 3)
    bias = torch.ones(4)
    expected = F.linear(x, weight, bias)
    found = linear(x, weight, bias), linear(x, weight, bias, gelu=True)
    return all(
        one.shape == other.shape and torch.allclose(one, other, atol=1e-5)
        for one, other in zip(found, (expected, F.gelu(expected)), strict=True)
    )


def works_in_bfloat16() -> bool:
    """Return whether the same operator supports bfloat16 on this processor."""
    is_supported = getattr(torch.ops.mkldnn, '_is_mkldnn_bf16_supported', None)
    return is_supported is not None and is_supported() and works()


def narrowest_by_onednn(processor: str, capability: str) -> int | None:
    """Return the minimum width at which oneDNN multiplies float32 matrices faster than MKL.

    Args:
        processor: text that names the vendor, such as /proc/cpuinfo on Linux.
        capability: instruction set that PyTorch uses, as returned by `get_cpu_capability`.

    Returns:
        Minimum number of input and output channels; None if MKL is always faster.
    """
    if 'GenuineIntel' in processor:
        return None
    return {'AVX2': 256, 'AVX512': 1}.get(capability)


def has_wide_units(processor: str, capability: str) -> bool:
    """Return whether this AMD processor executes an AVX-512 instruction in one step.

    AMD has done so since family 26 (Zen 5). oneDNN then takes half the time of MKL for weight gradients
    too; on other processors it is slower for them. Arguments are as in `narrowest_by_onednn`.
    """
    family = re.search(r'cpu family\s*: (\d+)', processor)
    is_new = 'AuthenticAMD' in processor and family is not None and int(family[1]) >= 26
    return is_new and capability == 'AVX512'


def _processor() -> str:
    """Return text that names the processor's vendor and family."""
    information = Path('/proc/cpuinfo')
    return information.read_text() if information.exists() else platform.processor()


_CHOICE = _processor(), torch.backends.cpu.get_cpu_capability()
_HAS_BOTH = HAS_OPERATOR and torch.backends.mkl.is_available()
# For products with a weight; None if MKL, or what PyTorch uses instead of it, always computes them.
NARROWEST_BY_ONEDNN = narrowest_by_onednn(*_CHOICE) if _HAS_BOTH else None
WEIGHT_GRADIENTS_BY_ONEDNN = _HAS_BOTH and has_wide_units(*_CHOICE)


def _linear_flops(x_shape, weight_shape, *_, out_shape=None, **__) -> int:
    """Count a multiply-add as two operations, as torch's FLOP counter does."""
    return 2 * x_shape.numel() * weight_shape[0]


if HAS_OPERATOR:
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_linear_flops)
