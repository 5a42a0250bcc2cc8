"""FLOP counter that counts each operator, by the usual convention of publications.

A multiply-add counts as one, and only products that are summed are counted: convolutions, matrix
products, attention, sampling at positions that the network computes, and products followed by a sum.
Norms are counted separately, with `NORMS`. Operators in `FREE` are not counted, for the reason given
for each group. An operator that has no formula and is not in `FREE` is reported as uncounted.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

from torch import Tensor, nn
from torch._ops import OpOverload, OpOverloadPacket
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count
from torch.utils.weak import WeakTensorKeyDictionary

import backbones  # noqa: F401  Its operators register their formulas in torch's registry.

# Takes all arguments of a call by their names in the operator's schema, and the result of the call.
Formula = Callable[[Mapping[str, Any], Any], int]


def _from_torch(operator: OpOverloadPacket) -> Formula:
    """Return torch's formula, divided by 2: torch counts a multiply-add as two FLOPs."""
    schemas = [getattr(operator, overload)._schema for overload in operator.overloads()]
    by_name = {arg.name for schema in schemas for arg in schema.arguments if arg.kwarg_only}

    def formula(arguments: Mapping[str, Any], result: Any) -> int:
        positional = [value for name, value in arguments.items() if name not in by_name]
        named = {name: value for name, value in arguments.items() if name in by_name}
        return flop_registry[operator](*positional, **named, out_val=result) // 2

    return formula


def _attention(arguments: Mapping[str, Any], result: Any) -> int:
    """Count attention, (B, heads, N, D): queries times keys, then attention weights times values."""
    shapes = (arguments[name].shape for name in ('query', 'key', 'value'))
    return sdpa_flop_count(*shapes) // 2


def _size_of(name: str) -> Formula:
    """Return a formula that counts one multiply-add per entry of an argument."""
    return lambda arguments, result: arguments[name].numel()


def _batched_product(arguments: Mapping[str, Any], result: Any) -> int:
    """Count a batched matrix product, (B, M, K) with (B, K, N)."""
    return arguments['batch1'].numel() * arguments['batch2'].shape[2]


# Number of weighted neighbors along one axis, by `interpolation_mode`; the nearest is only copied.
_NEIGHBORS = {0: 2, 1: 0, 2: 4}


def _grid_sample(arguments: Mapping[str, Any], result: Tensor) -> int:
    """Count the weighted sum over the neighbors of each sampled value (4 if bilinear)."""
    axes = result.dim() - 2
    return result.numel() * _NEIGHBORS[arguments.get('interpolation_mode', 0)] ** axes


def _embedding_bag(arguments: Mapping[str, Any], result: Any) -> int:
    """Count weighted sums of rows (N, D); plain sums without weights count as 0."""
    if arguments['per_sample_weights'] is None:
        return 0
    return arguments['indices'].numel() * arguments['weight'].shape[1]


# Formula of each operator, by its name without a trailing underscore. Assign an entry to add one.
FORMULAS: dict[str, Formula] = {
    operator._qualified_op_name: _from_torch(operator)
    for operator in flop_registry
    if isinstance(operator, OpOverloadPacket) and 'backward' not in operator.__name__
} | {
    'aten::_scaled_dot_product_flash_attention_for_cpu': _attention,
    'aten::_scaled_dot_product_fused_attention_overrideable': _attention,
    'aten::dot': _size_of('self'),
    'aten::vdot': _size_of('self'),
    'aten::mv': _size_of('self'),
    'aten::addmv': _size_of('mat'),
    'aten::addbmm': _batched_product,
    'aten::grid_sampler_2d': _grid_sample,
    'aten::grid_sampler_3d': _grid_sample,
    'aten::cudnn_grid_sampler': _grid_sample,
    'aten::_embedding_bag': _embedding_bag,
    'aten::_embedding_bag_forward_only': _embedding_bag,
}


def _norm(arguments: Mapping[str, Any], result: Any) -> int:
    """Count four operations per entry, five with a weight, like fvcore and mmengine.

    With known statistics, as in batch norm at inference: one per entry, two with a weight.
    """
    is_estimated = arguments.get('training', True)
    without_weight = 4 if is_estimated else 1
    return arguments['input'].numel() * (without_weight + (arguments['weight'] is not None))


def _tested_norm(arguments: Mapping[str, Any], result: Any) -> int:
    """Count batch norm for operators that are used only at inference."""
    return _norm({**arguments, 'training': False}, result)


# Formula of each norm, by names as in `FORMULAS`; norms are counted separately.
NORMS: dict[str, Formula] = {
    **dict.fromkeys(
        (
            'aten::_fused_rms_norm',
            'aten::_native_batch_norm_legit',
            'aten::cudnn_batch_norm',
            'aten::miopen_batch_norm',
            'aten::native_batch_norm',
            'aten::native_group_norm',
            'aten::native_layer_norm',
        ),
        _norm,
    ),
    'aten::_batch_norm_no_update': _tested_norm,
    'aten::_native_batch_norm_legit_no_training': _tested_norm,
}

# Operators that are not counted: the reason, and the names without a trailing underscore.
FREE: dict[str, frozenset[str]] = {
    reason: frozenset(f'{"" if "::" in name else "aten::"}{name}' for name in names.split())
    for reason, names in {
        'views: no computation': """
            _reshape_alias _unsafe_view alias as_strided chunk detach diagonal expand lift_fresh movedim
            narrow permute reshape select slice split split_with_sizes squeeze t transpose unbind unfold
            unsafe_split unsafe_split_with_sizes unsqueeze view view_as_complex view_as_real""",
        'copies: values are moved or looked up, not computed': """
            _to_copy cat clone constant_pad_nd contiguous copy embedding flip gather im2col index
            index_put index_select masked_select pixel_shuffle pixel_unshuffle reflection_pad2d repeat
            replication_pad2d roll rot90 scatter select_scatter slice_scatter stack to tril triu""",
        'creation: constants and geometry': """
            _local_scalar_dense arange empty empty_like empty_strided eye fill full full_like item
            lift_fresh_copy linspace new_empty new_empty_strided new_full new_ones new_zeros ones
            ones_like promote_types scalar_tensor tril_indices triu_indices zero zeros zeros_like""",
        'random numbers, such as those of dropout': """
            bernoulli native_dropout normal rand rand_like randn randn_like uniform""",
        'elementwise: no sum of products; `mul` is counted if a sum follows': """
            _prelu_kernel abs add addcdiv addcmul bitwise_and bitwise_not bitwise_or bitwise_xor ceil
            clamp clamp_max clamp_min cos div elu eq erf exp exp2 expm1 floor floor_divide fmod ge gelu
            glu gt hardsigmoid hardswish hardtanh isfinite isinf isnan le leaky_relu lerp log log1p log2
            logical_and logical_not logical_or logical_xor logit lt masked_fill maximum minimum mish mul
            ne neg pow reciprocal relu relu6 remainder round rsqrt rsub sgn sigmoid sign silu sin
            softplus sqrt square sub tan tanh threshold trunc where""",
        'softmax': '_log_softmax _safe_softmax _softmax logsumexp',
        'reductions, sorting and sums without a product': """
            all amax amin any argmax argmin argsort col2im count_nonzero cumprod cumsum index_add
            linalg_vector_norm max mean median min prod scatter_add sort std std_mean sum topk var
            var_mean""",
        'pooling': """
            _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d avg_pool2d avg_pool3d
            max_pool2d_with_indices max_pool3d_with_indices""",
        'resizing to a fixed grid: not included in published figures': """
            _upsample_bicubic2d_aa _upsample_bilinear2d_aa upsample_bicubic2d upsample_bilinear2d
            upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
            upsample_trilinear3d""",
        'regions: not included in published figures': """
            torchvision::nms torchvision::roi_align torchvision::roi_pool""",
    }.items()
}

_FREE_NAMES = frozenset().union(*FREE.values())
_PRODUCT = 'aten::mul'
_SUMS = ('aten::sum', 'aten::mean')


class FlopCounter(TorchDispatchMode):
    """Dispatch mode that counts FLOPs; created by `count_flops`.

    Args:
        running: qualified names of the running modules, innermost last.

    Attributes:
        flops: multiply-adds, by qualified name of the innermost module and name of the operator.
        norms: operations of norms, by name of the operator; not included in `flops`.
        uncounted: number of calls of each operator that has no formula and is not free.
    """

    def __init__(self, running: Sequence[str]) -> None:
        super().__init__()
        self.flops: Counter[tuple[str, str]] = Counter()
        self.norms: Counter[str] = Counter()
        self.uncounted: Counter[str] = Counter()
        self._running = running
        self._products = WeakTensorKeyDictionary()

    @property
    def total(self) -> int:
        """Total number of multiply-adds."""
        return self.flops.total()

    def by_module(self) -> Counter[str]:
        """Return multiply-adds by qualified name of the innermost module."""
        totals: Counter[str] = Counter()
        for (module, _), flops in self.flops.items():
            totals[module] += flops
        return totals

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Run an operator and count it."""
        kwargs = kwargs or {}
        name = operator_name(func)
        known = name in FORMULAS or name in NORMS or name in _FREE_NAMES
        if not known:
            # Count a composite operator by the operators that it is composed of.
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if known:
            arguments = bind(func, args, kwargs)
            if name in NORMS:
                self.norms[name] += NORMS[name](arguments, result)
            flops = self._count(name, arguments, result)
            if flops:
                self.flops[self._running[-1], name] += flops
        else:
            self.uncounted[name] += 1
        return result

    def _count(self, name: str, arguments: Mapping[str, Any], result: Any) -> int:
        if name in FORMULAS:
            return FORMULAS[name](arguments, result)
        if name == _PRODUCT and _is_tensor(arguments['self']) and _is_tensor(arguments['other']):
            self._products[result] = True
        if name in _SUMS and arguments['self'] in self._products:
            # A contraction counts the same, whether written with `einsum` or as a product and a sum.
            return arguments['self'].numel()
        return 0


@contextmanager
def count_flops(model: nn.Module) -> Iterator[FlopCounter]:
    """Count operators that run inside a `with` statement, on any device, including `meta`.

    Backward operators are not counted: run the model under `torch.no_grad()`.

    Args:
        model: module whose submodules the counts are grouped by; operators outside it are counted under
            an empty name.
    """
    running = ['']
    hooks = []
    for name, module in model.named_modules():
        hooks += [
            module.register_forward_pre_hook(lambda *_, name=name: running.append(name)),
            module.register_forward_hook(lambda *_: _drop_last(running), always_call=True),
        ]
    try:
        with FlopCounter(running) as counter:
            yield counter
    finally:
        for hook in hooks:
            hook.remove()


def operator_name(func: OpOverload) -> str:
    """Return one name for all overloads, in place or not: `aten::relu` for `aten.relu_.default`."""
    return func._schema.name.rstrip('_')


def bind(func: OpOverload, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by their names in the schema, with defaults for missing ones."""
    arguments = {}
    for place, argument in enumerate(func._schema.arguments):
        if place < len(args):
            arguments[argument.name] = args[place]
        else:
            arguments[argument.name] = kwargs.get(argument.name, argument.default_value)
    return arguments


def _drop_last(names: list[str]) -> None:
    # Return None: a value returned from a forward hook would replace the module's output.
    names.pop()


def _is_tensor(value: object) -> bool:
    """Return whether a value is a tensor with more than one entry; a single one only scales."""
    return isinstance(value, Tensor) and prod(value.shape) > 1
