"""The FLOP counter compared with closed forms, and its table of operators compared with torch."""

import itertools

import pytest
import torch
import torch.nn.functional as F
import torchvision  # noqa: F401 (the table names some of its operators)
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.analysis import FlopAnalyzer
from torch import nn

from evaluation.models.operator_flops import FORMULAS, FREE, NORMS, count_flops

SIZES = st.integers(1, 6)
some = settings(max_examples=50, deadline=None)


def flops_of(function, *arguments):
    """Return the multiply-adds of a call; check that all of its operators are known."""
    with torch.no_grad(), count_flops(nn.Identity()) as counter:
        function(*arguments)
    assert not counter.uncounted
    return counter.total


def empty(*shape):
    return torch.empty(*shape, device='meta')


def output_length(length, kernel, stride, padding, dilation):
    """Count the positions at which a dilated kernel is inside the padded input."""
    reach = dilation * (kernel - 1)
    return sum(
        1 for start in range(0, length + 2 * padding, stride) if start + reach < length + 2 * padding
    )


# Products


@some
@given(
    st.tuples(SIZES, SIZES, SIZES, SIZES),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(1, 2),
    st.booleans(),
)
def test_convolution(sizes, kernel, stride, padding, dilation, bias):
    groups, inputs, outputs, batch = sizes
    length = (7, 10)
    conv = nn.Conv2d(
        groups * inputs, groups * outputs, kernel, stride, padding, dilation, groups, bias, device='meta'
    )
    per_output = inputs * kernel[0] * kernel[1]
    out = [output_length(n, k, stride, padding, dilation) for n, k in zip(length, kernel, strict=True)]
    expected = batch * groups * outputs * out[0] * out[1] * per_output
    assert flops_of(conv, empty(batch, groups * inputs, *length)) == expected


@some
@given(SIZES, SIZES, SIZES, st.integers(1, 3), st.integers(1, 3))
def test_transposed_convolution(groups, inputs, outputs, kernel, stride):
    conv = nn.ConvTranspose2d(
        groups * inputs, groups * outputs, kernel, stride, groups=groups, device='meta'
    )
    expected = 2 * groups * inputs * 5 * 4 * outputs * kernel**2
    assert flops_of(conv, empty(2, groups * inputs, 5, 4)) == expected


@some
@given(st.lists(SIZES, max_size=3), SIZES, SIZES, st.booleans())
def test_linear(leading, inputs, outputs, bias):
    linear = nn.Linear(inputs, outputs, bias, device='meta')
    tokens = torch.Size(leading).numel()
    assert flops_of(linear, empty(*leading, inputs)) == tokens * inputs * outputs


@some
@given(st.lists(SIZES, max_size=2), SIZES, SIZES, SIZES)
def test_batched_matrix_product(leading, rows, inner, columns):
    expected = torch.Size(leading).numel() * rows * inner * columns
    assert flops_of(torch.matmul, empty(*leading, rows, inner), empty(inner, columns)) == expected
    assert flops_of(torch.matmul, empty(rows, inner), empty(*leading, inner, columns)) == expected


@pytest.mark.parametrize(
    ('call', 'expected'),
    [
        (lambda: torch.mv(empty(3, 5), empty(5)), 15),
        (lambda: torch.dot(empty(5), empty(5)), 5),
        (lambda: torch.addmv(empty(3), empty(3, 5), empty(5)), 15),
        (lambda: torch.addmm(empty(3, 2), empty(3, 5), empty(5, 2), beta=2, alpha=3), 30),
        (lambda: torch.addbmm(empty(3, 2), empty(4, 3, 5), empty(4, 5, 2)), 120),
        (lambda: torch.baddbmm(empty(4, 3, 2), empty(4, 3, 5), empty(4, 5, 2)), 120),
        (lambda: empty(4, 3, 2).baddbmm_(empty(4, 3, 5), empty(4, 5, 2)), 120),
        (lambda: torch.mm(empty(3, 5), empty(5, 2), out=empty(3, 2)), 30),
        (lambda: torch.einsum('nhqd,nhkd->nhqk', empty(2, 3, 4, 5), empty(2, 3, 6, 5)), 720),
        (lambda: torch.einsum('nkd,nk->nd', empty(2, 3, 4), empty(2, 3)), 24),
    ],
)
def test_other_products(call, expected):
    assert flops_of(call) == expected


@pytest.mark.parametrize('device', ['cpu', 'meta'])
@pytest.mark.parametrize('mask', [None, (1, 1, 7, 11), (2, 3, 7, 11)])
def test_attention(device, mask):
    batch, heads, queries, keys, dim = 2, 3, 7, 11, 8
    q = torch.zeros(batch, heads, queries, dim, device=device)
    k, v = (torch.zeros(batch, heads, keys, dim, device=device) for _ in range(2))
    bias = None if mask is None else torch.zeros(mask, device=device)
    expected = batch * heads * queries * keys * (dim + dim)
    assert flops_of(F.scaled_dot_product_attention, q, k, v, bias) == expected


def test_cpu_runs_fused_attention():
    q, k, v = torch.zeros(3, 2, 3, 7, 8).unbind()
    with torch.no_grad(), count_flops(nn.Identity()) as counter:
        F.scaled_dot_product_attention(q, k, v)
    assert {name for _, name in counter.flops} == {'aten::_scaled_dot_product_flash_attention_for_cpu'}


def test_inference_mode_gives_the_same_count():
    attention = nn.MultiheadAttention(8, 2, batch_first=True).train()
    x = torch.zeros(2, 5, 8)
    expected = flops_of(lambda: attention(x, x, x, need_weights=False))
    with torch.inference_mode(), count_flops(attention) as counter:
        attention(x, x, x, need_weights=False)
    assert not counter.uncounted
    assert counter.total == expected == 2 * 5 * 4 * 8 * 8 + 2 * 5 * 5 * (8 + 8)


# Sampling


@pytest.mark.parametrize(('mode', 'neighbors'), [('bilinear', 4), ('bicubic', 16), ('nearest', 0)])
def test_sampling_in_two_dimensions(mode, neighbors):
    def sample():
        return F.grid_sample(empty(2, 3, 8, 9), empty(2, 5, 7, 2), mode=mode, align_corners=False)

    assert flops_of(sample) == neighbors * 2 * 3 * 5 * 7


def test_trilinear_sampling():
    def sample():
        return F.grid_sample(empty(2, 3, 8, 9, 4), empty(2, 5, 7, 6, 3), align_corners=False)

    assert flops_of(sample) == 8 * 2 * 3 * 5 * 7 * 6


@pytest.mark.parametrize('weights', [True, False])
def test_embedding_bag(weights):
    def look_up():
        given = torch.ones(6, 4) if weights else None
        index = torch.zeros(6, 4, dtype=torch.long)
        return F.embedding_bag(index, torch.ones(10, 5), mode='sum', per_sample_weights=given)

    assert flops_of(look_up) == (6 * 4 * 5 if weights else 0)


@some
@given(SIZES, st.integers(2, 6), SIZES)
def test_summed_product_counts_the_same_as_einsum(batch, points, dim):
    values, weights = empty(batch, dim, points), empty(batch, 1, points)

    def contract():
        return torch.einsum('bdk,bk->bd', values, weights[:, 0])

    assert flops_of(lambda: (values * weights).sum(-1)) == flops_of(contract) == batch * dim * points


@pytest.mark.parametrize(
    'call',
    [
        lambda x: x * x,
        lambda x: x.sum(),
        lambda x: (x * 2).sum(),
        lambda x: (x * torch.ones((), device=x.device)).sum(),
        lambda x: (x + x).sum(),
        lambda x: (x * x + x).sum(),
    ],
)
def test_separate_products_and_sums_are_free(call):
    assert flops_of(call, empty(4, 5)) == 0


# Norms


@pytest.mark.parametrize(
    ('norm', 'shape', 'expected'),
    [
        (nn.LayerNorm(4), (2, 3, 4), 5),
        (nn.LayerNorm(4, elementwise_affine=False), (2, 3, 4), 4),
        (nn.LayerNorm(4, bias=False), (2, 3, 4), 5),
        (nn.GroupNorm(2, 4), (2, 4, 3, 3), 5),
        (nn.GroupNorm(2, 4, affine=False), (2, 4, 3, 3), 4),
        (nn.InstanceNorm2d(4), (2, 4, 3, 3), 4),
        (nn.InstanceNorm2d(4, affine=True), (2, 4, 3, 3), 5),
        (nn.BatchNorm2d(4).eval(), (2, 4, 3, 3), 2),
        (nn.BatchNorm2d(4, affine=False).eval(), (2, 4, 3, 3), 1),
        (nn.BatchNorm2d(4).train(), (2, 4, 3, 3), 5),
        (nn.BatchNorm2d(4, affine=False).train(), (2, 4, 3, 3), 4),
        (nn.BatchNorm2d(4, track_running_stats=False).eval(), (2, 4, 3, 3), 5),
    ],
)
@pytest.mark.parametrize('device', ['cpu', 'meta'])
def test_norms_are_counted_separately_and_as_in_mmengine(device, norm, shape, expected):
    x = torch.zeros(shape, device=device)
    with torch.no_grad(), count_flops(nn.Identity()) as counter:
        norm.to(device)(x)
    assert not counter.uncounted
    assert counter.total == 0
    assert counter.norms.total() == expected * x.numel()
    if device == 'cpu':
        assert FlopAnalyzer(norm, x).unsupported_ops_warnings(False).total() == expected * x.numel()


# Modules


def test_counts_are_grouped_by_the_innermost_module():
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 5), nn.ReLU()))
    with torch.no_grad(), count_flops(model) as counter:
        model(torch.zeros(2, 3))
        model[1][0](torch.zeros(1, 4))
        torch.zeros(2, 2) @ torch.zeros(2, 2)
    assert counter.by_module() == {'0': 2 * 3 * 4, '1.0': 3 * 4 * 5, '': 8}
    assert counter.total == 24 + 60 + 8


def test_error_in_a_module_removes_all_hooks():
    class Failing(nn.Module):
        def forward(self, x):
            raise ArithmeticError

    model = nn.Sequential(nn.Linear(3, 3), Failing())
    with torch.no_grad(), count_flops(model) as counter:
        with pytest.raises(ArithmeticError):
            model(torch.zeros(1, 3))
        torch.zeros(2, 2) @ torch.zeros(2, 2)
    assert counter.by_module() == {'0': 9, '': 8}
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_counting_does_not_change_outputs():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU()).eval()
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = model(x)
        with count_flops(model):
            counted = model(x)
    assert torch.equal(counted, expected)


# Unknown operators


def test_unknown_operator_is_reported_with_its_number_of_calls():
    with torch.no_grad(), count_flops(nn.Identity()) as counter:
        for _ in range(3):
            torch.cdist(empty(4, 5), empty(6, 5))
        torch.fft.fft(torch.zeros(4))
    assert counter.uncounted['aten::_cdist_forward'] == 3
    assert any('fft' in name for name in counter.uncounted)
    assert counter.total == 0


@pytest.fixture
def operator():
    """Register a custom operator: the sum of products of neighbors."""
    with torch.library._scoped_library('flops_test', 'DEF') as library:
        library.define('neighbors(Tensor x, int count=2) -> Tensor')
        library.impl('neighbors', lambda x, count=2: x.clone(), 'CPU')
        library.impl('neighbors', torch.empty_like, 'Meta')
        yield torch.ops.flops_test.neighbors


def test_custom_operator_is_uncounted_until_it_has_a_formula(operator, monkeypatch):
    def run():
        with torch.no_grad(), count_flops(nn.Identity()) as counter:
            operator(torch.zeros(3, 4))
            operator(torch.zeros(3, 4), count=5)
        return counter

    before = run()
    assert (before.uncounted, before.total) == ({'flops_test::neighbors': 2}, 0)
    monkeypatch.setitem(
        FORMULAS, 'flops_test::neighbors', lambda arguments, out: arguments['count'] * out.numel()
    )
    after = run()
    assert (after.uncounted, after.total) == ({}, (2 + 5) * 12)


# The table of operators


def packet(name):
    library, operator = name.split('::')
    return getattr(getattr(torch.ops, library), operator)


def overloads(name):
    found = packet(name)
    return [getattr(found, overload) for overload in found.overloads()]


def test_every_operator_is_in_one_group():
    groups = [*FREE.values(), FORMULAS.keys(), NORMS.keys()]
    for one, other in itertools.combinations(groups, 2):
        assert not set(one) & set(other)


def test_operators_in_the_table_exist():
    for name in itertools.chain(*FREE.values(), FORMULAS, NORMS):
        assert overloads(name), name


def group(start):
    (names,) = (names for reason, names in FREE.items() if reason.startswith(start))
    return sorted(names)


@pytest.mark.parametrize('name', group('views'))
def test_views_return_an_alias_or_are_variants_of_views(name):
    functional = {'aten::_unsafe_view', 'aten::unsafe_split', 'aten::unsafe_split_with_sizes'}
    # These return a view or a copy, depending on strides.
    by_strides = {'aten::reshape', 'aten::_reshape_alias'}
    aliases = any(result.alias_info for op in overloads(name) for result in op._schema.returns)
    assert aliases or name in functional | by_strides


# Elementwise operators that are not tagged as such in every version of torch.
UNTAGGED = (
    'aten::_prelu_kernel',
    'aten::floor_divide',
    'aten::glu',
    'aten::hardswish',
    'aten::leaky_relu',
)


@pytest.mark.parametrize('name', group('elementwise'))
def test_elementwise_operators_are_tagged_as_pointwise(name):
    assert any(torch.Tag.pointwise in op.tags for op in overloads(name)) or name in UNTAGGED
