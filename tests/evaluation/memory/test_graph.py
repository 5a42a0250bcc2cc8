"""The backward pass without PyTorch's engine, beside the engine."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from evaluation.memory.graph import backward_without_engine


class Doubled(torch.autograd.Function):
    """A function with its own gradient, and an output that is not used."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x, x.sum(0)

    @staticmethod
    def backward(ctx, grad, grad_of_sum):
        (x,) = ctx.saved_tensors
        assert not grad_of_sum.any()
        return 2 * x * grad


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 4, 1)
    )


def loss_of(module, recomputes):
    images = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    out = checkpoint(module, images, use_reentrant=False) if recomputes else module(images)
    # Broadcasting, views, indices, two uses of one map, and a leaf that is used twice.
    bias = module[3].bias
    squared, _ = Doubled.apply(out + bias[:, None, None])
    mask = squared > 0
    return squared[mask].mean() + F.log_softmax(out, 1).unbind(1)[0].double().sum() + bias.sum()


def gradients(recomputes):
    module = network()
    loss_of(module, recomputes).backward()
    return {name: parameter.grad for name, parameter in module.named_parameters()}


@pytest.mark.parametrize('recomputes', [False, True])
def test_gradients_are_those_of_the_engine(recomputes):
    expected = gradients(recomputes)
    with backward_without_engine():
        found = gradients(recomputes)
    assert found.keys() == expected.keys()
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-5, atol=1e-6)


def test_gradients_accumulate():
    module = network()
    with backward_without_engine():
        loss_of(module, False).backward()
        once = module[3].weight.grad.clone()
        loss_of(module, False).backward()
    torch.testing.assert_close(module[3].weight.grad, 2 * once, rtol=1e-5, atol=1e-6)
