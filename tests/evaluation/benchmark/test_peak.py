import pytest
import torch

from evaluation.benchmark import peak
from evaluation.benchmark.passes import Mode
from evaluation.benchmark.peak import MatrixProduct, affordable_side
from evaluation.utils.errors import UserError
from tests.evaluation.benchmark.toys import CPU


@pytest.mark.parametrize(('dtype', 'expected'), [('fp32', torch.float32), ('bf16', torch.bfloat16)])
def test_is_the_product_of_two_matrices_of_the_dtype(monkeypatch, dtype, expected):
    calls = []
    product = torch.mm
    monkeypatch.setattr(torch, 'mm', lambda a, b, out: calls.append((a, b, product(a, b, out=out))))
    assert MatrixProduct(64, Mode(CPU.device, dtype)).time() > 0
    ((a, b, result),) = calls
    for matrix in (a, b, result):
        assert (matrix.shape, matrix.dtype) == ((64, 64), expected)
    torch.testing.assert_close(result.float(), a.float() @ b.float(), rtol=0.02, atol=0.1)


def test_multiply_adds():
    assert MatrixProduct(10, CPU).flops == 10 * 10 * 10


@pytest.mark.parametrize(
    ('seconds', 'side'),
    # Of 512x512 matrices; those of 4096x4096 take 8^3 times as long.
    [(1e-3, 4096), (19 / 8**3, 4096), (21 / 8**3, 2048), (21 / 4**3, 1024), (1e3, 512)],
)
def test_side_is_halved_where_a_product_would_take_too_long(monkeypatch, seconds, side):
    monkeypatch.setattr(peak.MatrixProduct, 'time', lambda self: seconds)
    assert affordable_side(CPU) == side


def test_matrices_that_do_not_fit():
    with pytest.raises(UserError, match=r'matrices of 1000000x1000000 .* --matrix-side'):
        MatrixProduct(1_000_000, CPU)
