import torch
from torch import nn

from evaluation.benchmark.cost import count_cost, without_values


class Odd(nn.Module):
    """A convolution, a linear layer used twice under two names, and an operator without a formula."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.first = nn.Linear(8, 8, bias=False)
        self.second = self.first
        self.register_buffer('offset', torch.ones(8))

    def forward(self, images):
        maps = self.convolution(images).permute(0, 2, 3, 1)
        return torch.special.bessel_j0(self.second(self.first(maps)) + self.offset)


def test_counts_by_hand():
    cost = count_cost(Odd(), height=10, width=16)
    assert cost.parameters == 8 * 3 * 9 + 8 + 8 * 8
    assert cost.flops == 5 * 8 * (8 * 3 * 9) + 2 * (5 * 8) * 8 * 8
    assert cost.uncounted_operators == ('aten::special_bessel_j0',)


def test_the_module_stays_as_it_is():
    module = Odd().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    count_cost(module, height=8, width=8)
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_copy_without_values():
    module = Odd()
    module.convolution.weight.requires_grad_(False)
    copied = without_values(module)
    assert copied.first is copied.second
    assert {tensor.device.type for tensor in copied.state_dict().values()} == {'meta'}
    flags = {name: parameter.requires_grad for name, parameter in copied.named_parameters()}
    assert flags == {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    assert {tensor.device.type for tensor in module.state_dict().values()} == {'cpu'}
