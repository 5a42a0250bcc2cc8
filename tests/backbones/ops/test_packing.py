import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backbones.ops.packing import empty_parts, unpack


class Written(torch.autograd.Function):
    """The product of its parts, whose gradients it writes into parts of one tensor."""

    @staticmethod
    def forward(ctx, *parts):
        ctx.save_for_backward(*parts)
        return torch.stack(parts).prod(0)

    @staticmethod
    def backward(ctx, grad):
        parts = ctx.saved_tensors
        found = empty_parts(parts[0], len(parts))
        for i, out in enumerate(found):
            others = [grad, *parts[:i], *parts[i + 1 :]]
            out.copy_(torch.stack(others).prod(0))
        Written.memory = found[0].untyped_storage().data_ptr()
        return found


def packed_and_by_unbind(*shape):
    packed = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    return packed, packed.detach().clone().requires_grad_()


@given(
    st.tuples(*(st.integers(1, 4) for _ in range(3))),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 5),
)
def test_gradient_lies_where_the_operator_wrote_it(places, count, heads, dim):
    packed, other = packed_and_by_unbind(*places, count, heads, dim)
    seen = []
    packed.register_hook(lambda grad: seen.append(grad.untyped_storage().data_ptr()))
    Written.apply(*unpack(packed)).sum().backward()
    torch.stack(other.unbind(-3)).prod(0).sum().backward()
    assert seen == [Written.memory]
    torch.testing.assert_close(packed.grad, other.grad)


USES = {
    'in any order': lambda q, k, v: Written.apply(v, q, k),
    'two': lambda q, k, v: Written.apply(q, k),
    'one': lambda q, k, v: q * 2,
    'each once': lambda q, k, v: q * k + v,
    'one again': lambda q, k, v: Written.apply(q, k, v) * q,
    'cut': lambda q, k, v: Written.apply(q, k, v)[:, 1:],
}


@pytest.mark.parametrize('use', USES.values(), ids=USES)
def test_gradient_is_that_of_unbind_however_parts_are_used(use):
    packed, other = packed_and_by_unbind(2, 3, 4, 3, 2, 5)
    use(*unpack(packed)).pow(2).sum().backward()
    use(*other.unbind(-3)).pow(2).sum().backward()
    torch.testing.assert_close(packed.grad, other.grad)


def test_differentiable_twice():
    packed = torch.randn(1, 2, 2, 3, 1, 2, dtype=torch.float64, requires_grad=True)
    function = lambda x: torch.stack(unpack(x)).prod(0)  # noqa: E731
    assert torch.autograd.gradgradcheck(function, packed)


def test_function_transforms():
    packed = torch.randn(4, 1, 2, 2, 3, 1, 2)

    def total(x):
        q, k, v = unpack(x)
        return (q * k * v).sum()

    found = torch.func.vmap(torch.func.grad(total))(packed)
    q, k, v = packed.unbind(-3)
    torch.testing.assert_close(found, torch.stack((k * v, q * v, q * k), -3))
