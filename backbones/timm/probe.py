"""Find out how a network of timm can serve as a backbone, by running it without values.

The network runs on the `meta` device, where tensors have shapes and a graph of gradients but no values.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import timm
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbones.errors import BackboneError
from backbones.maps import STRIDES

# Strides of plain networks from which a pyramid reaches the others by factors of 2.
PLAIN_STRIDES = STRIDES
# Candidates for what a network divides images by: powers of 2, and strides times window sizes.
DIVISORS = (1, 2, 4, 8, 16, 32, 64, 128, 96, 112, 160, 192, 224, 256, 384)
# Image sizes to try, in pixels; sides are rounded up to multiples of a divisor.
SIZES = ((97, 131), (150, 115), (65, 220))
# Operations of gradients that only rearrange values.
REARRANGEMENTS = ('Permute', 'Transpose', 'View', 'Reshape', 'Clone', 'Slice', 'Alias', 'Unsafe')


@dataclass(frozen=True)
class Facts:
    """How a network can serve as a backbone.

    Attributes:
        indices: timm's indices of the maps to use.
        dims: channels of the maps at all strides of dense models; of a plain network, of its only map.
        divisor: number that divides the sides of the images that it takes.
        common_stride: stride of all its maps, as in a plain vision transformer; None if strides differ.
        unused_modules: modules that do not run for these maps.
        unused_parameters: other parameters that no map depends on.
        first_maps: for each other parameter, the first of these maps that depends on it.
        are_normalized: for each of these maps, whether a normalization layer computes it, or the network
            has batch norms.
    """

    indices: tuple[int, ...]
    dims: tuple[int, ...]
    divisor: int
    common_stride: int | None
    unused_modules: tuple[str, ...]
    unused_parameters: tuple[str, ...]
    first_maps: dict[str, int]
    are_normalized: tuple[bool, ...]


def run(network: nn.Module, images: Tensor, indices: Sequence[int]) -> list[Tensor]:
    """Return maps of a network, each (B, C, H, W), without running later layers."""
    return network.forward_intermediates(
        images, indices=list(indices), stop_early=True, output_fmt='NCHW', intermediates_only=True
    )


def common_stride(network: nn.Module) -> int | None:
    """Return the stride that all maps have in a plain vision transformer; None if strides differ."""
    strides = {entry['reduction'] for entry in getattr(network, 'feature_info', None) or []}
    return strides.pop() if len(strides) == 1 else None


def probe(network: nn.Module, name: str, out_indices: Sequence[int]) -> Facts:
    """Examine a network.

    Args:
        network: network of timm on the `meta` device.
        name: its name, for messages.
        out_indices: indices in `STRIDES` of the wanted strides.

    Raises:
        BackboneError: it has no maps at the strides of dense models, or not for images of any size.
    """
    info = [dict(entry) for entry in getattr(network, 'feature_info', None) or []]
    if not info or not hasattr(network, 'forward_intermediates'):
        raise BackboneError(
            f'timm:{name} offers no feature maps in timm {timm.__version__}; a newer timm may'
        )
    stride = common_stride(network)
    if stride and stride not in PLAIN_STRIDES:
        raise BackboneError(
            f'timm:{name} has maps at stride {stride} only; a pyramid needs '
            f'{", ".join(map(str, PLAIN_STRIDES))}'
        )
    if stride:
        last, strides, indices = (len(info) - 1,), (stride,), (len(info) - 1,)
    else:
        last, strides = _last_maps([entry['reduction'] for entry in info], name), STRIDES
        indices = tuple(last[index] for index in out_indices)
    # With fewer maps it might be smaller, but then these maps would change.
    divisor = _divisor(network.eval(), name, last, strides)
    maps, called, norms = _traced(network, _round_up(128, divisor), indices)
    first_maps = _first_maps(network, maps)
    unused = [each for each, _ in network.named_parameters() if each not in first_maps]
    modules = _topmost(network, called, unused)
    has_batch_norm = any(isinstance(module, _BatchNorm) for module in network.modules())
    return Facts(
        indices=indices,
        dims=tuple(info[index]['num_chs'] for index in last),
        common_stride=stride,
        divisor=divisor,
        unused_modules=modules,
        unused_parameters=tuple(n for n in unused if not n.startswith(tuple(f'{m}.' for m in modules))),
        first_maps=first_maps,
        are_normalized=tuple(has_batch_norm or _ends_in(each, norms) for each in maps),
    )


def _last_maps(reductions: Sequence[int], name: str) -> tuple[int, ...]:
    """Return the index of the last map at each stride of dense models.

    Raises:
        BackboneError: there is no map at one of these strides.
    """
    last = {stride: index for index, stride in enumerate(reductions)}
    if missing := [str(stride) for stride in STRIDES if stride not in last]:
        found = ', '.join(str(stride) for stride in dict.fromkeys(reductions))
        raise BackboneError(
            f'timm:{name} has maps at strides {found}, but dense models need {", ".join(missing)} too'
        )
    return tuple(last[stride] for stride in STRIDES)


def _divisor(network: nn.Module, name: str, indices: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Return the smallest number such that the network takes images whose sides it divides.

    Raises:
        BackboneError: there is none.
    """
    reason, runs = '', False
    for divisor in DIVISORS:
        sizes = [tuple(_round_up(side, divisor) for side in size) for size in SIZES]
        # For large divisors, the others all have the same size.
        sizes.append((_round_up(64, divisor), 2 * _round_up(64, divisor)))
        try:
            if all(_fits(network, size, indices, strides) for size in sizes):
                return divisor
            runs = True
        # Networks reject sizes with many kinds of exceptions.
        except Exception as error:
            reason = reason or f' ({(str(error) or type(error).__name__).strip().splitlines()[0]})'
    if runs:
        raise BackboneError(f'timm:{name} has maps of other sizes than its strides say')
    raise BackboneError(f'timm:{name} does not take images of any size{reason}')


def _fits(
    network: nn.Module, size: tuple[int, int], indices: Sequence[int], strides: Sequence[int]
) -> bool:
    """Return whether the maps for an image size have the sizes that their strides say."""
    with torch.no_grad():
        maps = run(network, torch.empty(2, 3, *size, device='meta'), indices)
    wanted = [tuple(math.ceil(side / stride) for side in size) for stride in strides]
    return [tuple(each.shape[2:]) for each in maps] == wanted


def _traced(network: nn.Module, side: int, indices: Sequence[int]) -> tuple[list[Tensor], set[str], set]:
    """Return maps with their graph, the names of modules that ran, and the graph's nodes of norms."""
    called: set[str] = set()
    norms: set = set()

    def note(name: str, module: nn.Module, output: object) -> None:
        called.add(name)
        # timm has several classes of normalization layers.
        if 'Norm' in type(module).__name__ and isinstance(output, Tensor):
            norms.add(output.grad_fn)

    hooks = [
        module.register_forward_hook(lambda module, _, output, name=name: note(name, module, output))
        for name, module in network.named_modules()
    ]
    # Some networks compute without gradients in eval mode.
    network.train()
    try:
        with torch.enable_grad():
            maps = run(network, torch.empty(2, 3, side, side, device='meta'), indices)
    finally:
        for hook in hooks:
            hook.remove()
    return maps, called, norms


def _first_maps(network: nn.Module, maps: Sequence[Tensor]) -> dict[str, int]:
    """Return the first map that depends on each parameter; parameters without one are absent."""
    names, parameters = zip(*network.named_parameters(), strict=True)
    first: dict[str, int] = {}
    for index, each in enumerate(maps):
        found = torch.autograd.grad(each.sum(), parameters, retain_graph=True, allow_unused=True)
        for name, gradient in zip(names, found, strict=True):
            if gradient is not None:
                first.setdefault(name, index)
    return first


def _topmost(network: nn.Module, called: set[str], unused: Sequence[str]) -> tuple[str, ...]:
    """Return the outermost modules without used parameters that did not run, nor any part of them."""

    def is_idle(name: str, module: nn.Module) -> bool:
        names = [f'{name}.{each}' for each, _ in module.named_parameters()]
        parts = {f'{name}.{each}' if each else name for each, _ in module.named_modules()}
        return bool(names) and {*names} <= {*unused} and called.isdisjoint(parts)

    def search(module: nn.Module, prefix: str) -> Iterator[str]:
        for child_name, child in module.named_children():
            name = f'{prefix}{child_name}'
            if is_idle(name, child):
                yield name
            else:
                yield from search(child, f'{name}.')

    return tuple(search(network, ''))


def _ends_in(output: Tensor, nodes: set) -> bool:
    """Return whether a tensor is the result of one of the nodes, up to rearrangements."""
    step = output.grad_fn
    while step is not None and step not in nodes and step.name().startswith(REARRANGEMENTS):
        step = step.next_functions[0][0]
    return step in nodes


def _round_up(side: int, divisor: int) -> int:
    return math.ceil(side / divisor) * divisor
