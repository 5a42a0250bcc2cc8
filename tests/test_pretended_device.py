"""The pretended device computes as the CPU does, refuses to mix devices, and records transfers."""

import copy

import pytest
import torch
from torch import nn

from tests.pretended_device import (
    DOWNLOAD,
    NAME,
    SHAPE,
    UPLOAD,
    VALUE,
    DeviceTensor,
    MixedDevicesError,
    Transfer,
    pretended_device,
)

HERE = 'tests/test_pretended_device.py'


@pytest.fixture
def transfers():
    with pretended_device() as found:
        yield found


@pytest.fixture
def x(transfers):
    """A tensor on the device, made of 0 to 5."""
    made = torch.arange(6.0, device=NAME).view(2, 3)
    assert not transfers
    return made


WAITS = {
    'item': (lambda x: x.sum().item(), [VALUE]),
    'bool': (lambda x: bool((x > 1).any()), [VALUE]),
    'tolist': (lambda x: x.tolist(), [VALUE]),
    'equal': (lambda x: torch.equal(x, x + 0), [VALUE]),
    'nonzero': (lambda x: x.nonzero(), [SHAPE]),
    'mask': (lambda x: x[x > 1], [SHAPE]),
    'values for a mask': (lambda x: x.__setitem__(x > 1, x[0, 0]), [SHAPE]),
    'unique': (lambda x: x.unique(), [SHAPE]),
    'cpu': (lambda x: x.cpu(), [DOWNLOAD]),
    'numpy': (lambda x: x.cpu().numpy(), [DOWNLOAD]),
    'list of indices': (lambda x: x[:, [2, 1, 0]], [UPLOAD]),
    'new_tensor': (lambda x: x.new_tensor([1.0, 2.0]), [UPLOAD]),
    'tensor': (lambda x: torch.tensor([1.0], device=x.device), [UPLOAD]),
    'copy_': (lambda x: x.copy_(torch.ones(2, 3)), [UPLOAD]),
    'to': (lambda x: torch.ones(3).to(x), [UPLOAD]),
}
RUNS_ON = {
    'numbers': lambda x: 2 * x + torch.tensor(1.0),
    'slices': lambda x: x[0, 1:],
    'where': lambda x: torch.where(x > 1, x, 0.0),
    'factories': lambda x: x + x.new_zeros(3) + torch.ones(3, device=x.device),
    'number for a mask': lambda x: _assigned(x, 0),
    'scalar for a mask': lambda x: _assigned(x, torch.tensor(3.0)),
    'indices': lambda x: x[torch.zeros(2, dtype=torch.long, device=x.device)],
}


def _assigned(x, value):
    x[x > 1] = value
    return x


@pytest.mark.parametrize('name', WAITS)
def test_transfers_are_recorded(x, transfers, name):
    call, kinds = WAITS[name]
    call(x)
    assert transfers == [Transfer(kind, HERE, '<lambda>') for kind in kinds]


@pytest.mark.parametrize('name', RUNS_ON)
def test_other_operations_transfer_nothing(x, transfers, name):
    out = RUNS_ON[name](x)
    assert not transfers
    assert isinstance(out, DeviceTensor)
    assert out.device.type == NAME


@pytest.mark.parametrize('index', [[2, 0], [True, False, True], (slice(None), [1, 0]), ([0, 1], 0)])
def test_lists_of_indices(x, index):
    square = x.repeat(2, 1)[:3]
    assert torch.equal(square[index].cpu(), square.cpu()[index])


def test_copies_that_do_not_block(x, transfers):
    torch.ones(3).to(NAME, non_blocking=True)
    x.copy_(torch.ones(2, 3), non_blocking=True)
    assert [each.waits for each in transfers] == [False, False]
    x.to('cpu', non_blocking=True)
    assert transfers[-1].waits


@pytest.mark.parametrize(
    'call',
    [
        lambda x: x + torch.ones(3),
        lambda x: torch.ones(3) + x,
        lambda x: torch.ones(3)[x[0].long()],
        lambda x: x.long().index_put_((x[0].long() % 2,), torch.ones(3, 3, dtype=torch.long)),
        lambda x: nn.functional.linear(x, torch.ones(2, 3)),
        lambda x: torch.cat([x, torch.ones(2, 3)]),
        lambda x: x.add_(torch.ones(2, 3)),
    ],
)
def test_mixed_devices_fail(x, call):
    with pytest.raises(MixedDevicesError, match='on the CPU and one on the device'):
        call(x)


def test_arrays_are_refused(x):
    with pytest.raises(RuntimeError, match='numpy'):
        x.numpy()


def test_training_equals_the_cpu(transfers):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))
    images = torch.randn(2, 3, 8, 8)
    model(images)

    def steps(device):
        copied = copy.deepcopy(model).to(device)
        optimizer = torch.optim.AdamW(copied.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            copied(images.to(device)).square().mean().backward()
            optimizer.step()
        return [value.cpu() for value in copied.state_dict().values()]

    for there, here in zip(steps(NAME), steps('cpu'), strict=True):
        assert torch.equal(there, here)
