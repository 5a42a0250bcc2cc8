"""Memory of the tensors that exist."""

import torch

from evaluation.memory.live import LiveMemory
from evaluation.memory.shapes_only import shapes_only

CPU = torch.device('cpu')


def test_views_count_once_and_freed_tensors_no_longer():
    with LiveMemory(CPU, []) as memory:
        x = torch.empty(100)
        assert memory.now == 400
        y = x.view(10, 10)[2:]
        del x
        assert memory.now == 400
        z = y * 2
        assert memory.now == 400 + z.numel() * 4
        del y
        assert memory.now == z.numel() * 4
    assert memory.peak == 400 + z.numel() * 4


def test_existing_tensors_do_not_count():
    weight = torch.empty(10, 10)
    with LiveMemory(CPU, [weight]) as memory:
        assert weight.t()[1:].sum().shape == ()
    assert memory.peak == 4


def test_saved_tensors_count_until_their_node_has_run():
    x = torch.empty(1000, requires_grad=True)
    with LiveMemory(CPU, [x]) as memory:
        loss = x.exp().sum()
        assert memory.now == 4004
        loss.backward()
        del loss
        assert memory.now == 4000  # the gradient
    assert memory.peak >= 8000


def test_tensors_without_values_on_a_gpu_count_in_blocks():
    device = torch.device('cuda')
    with shapes_only(device), LiveMemory(device, []) as memory:
        x = torch.empty(1000, 1000)
        assert x.device.type == 'cuda'
        assert memory.now == 4_000_256
        y = torch.empty(3)
        assert memory.now == 4_000_256 + 512
        assert y.nonzero().shape == (3, 1)
