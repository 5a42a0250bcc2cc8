import pytest
import torch

from evaluation.utils import devices as device
from evaluation.utils.devices import check_dtype, describe_device, find_device
from evaluation.utils.errors import UserError


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that there are some GPUs."""

    def set_number(number):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: number > 0)
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: number)

    return set_number


@pytest.mark.parametrize(
    ('name', 'number', 'expected'),
    [
        (None, 0, 'cpu'),
        (None, 2, 'cuda:0'),
        ('cpu', 2, 'cpu'),
        ('cuda', 1, 'cuda:0'),
        ('cuda:1', 2, 'cuda:1'),
    ],
)
def test_device_by_name(gpus, name, number, expected):
    gpus(number)
    assert find_device(name) == torch.device(expected)


@pytest.mark.parametrize(
    ('name', 'number', 'message'),
    [
        ('cuda', 0, 'finds no GPU'),
        ('cuda:2', 2, 'device cuda:2 does not exist; give one of cuda:0 to cuda:1'),
        ('cuda:-1', 2, 'unknown device'),
        ('gpu', 2, "unknown device 'gpu'; give cpu, cuda or cuda:N"),
    ],
)
def test_missing_device(gpus, name, number, message):
    gpus(number)
    with pytest.raises(UserError, match=message):
        find_device(name)


@pytest.mark.parametrize(
    ('name', 'dtype', 'has_products', 'message'),
    [
        ('cpu', 'fp32', False, None),
        ('cpu', 'bf16', True, None),
        ('cpu', 'bf16', False, '--dtype bf16: Abacus 3000 has no bf16 instructions.* give --dtype fp32'),
        ('cpu', 'fp16', True, '--dtype fp16 needs a GPU'),
        ('cuda', 'bf16', False, None),
        ('cuda', 'fp16', False, None),
    ],
)
def test_dtypes_without_instructions(monkeypatch, name, dtype, has_products, message):
    monkeypatch.setattr(device, 'cpu_name', lambda: 'Abacus 3000')
    monkeypatch.setattr(device, 'has_bfloat16_products', lambda: has_products)
    if message is None:
        check_dtype(torch.device(name), dtype)
    else:
        with pytest.raises(UserError, match=message):
            check_dtype(torch.device(name), dtype)


def test_cpu_name(monkeypatch, tmp_path):
    facts = tmp_path / 'cpuinfo'
    facts.write_text('processor\t: 0\nmodel name\t: Abacus 3000 \nprocessor\t: 1\nmodel name\t: other\n')
    monkeypatch.setattr(device, 'CPU_FACTS', facts)
    found = describe_device(torch.device('cpu'))
    assert found == {'device': 'cpu', 'name': 'Abacus 3000', 'threads': torch.get_num_threads()}
    facts.write_text('processor\t: 0\n')
    assert device.cpu_name()
