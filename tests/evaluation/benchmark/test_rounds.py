"""Rounds of passes and of the matrix product."""

from collections import Counter

import pytest
import torch
from torch import nn

from evaluation.benchmark.passes import Mode, random_images
from evaluation.benchmark.rounds import (
    UNTIMED_PASSES,
    MatrixProduct,
    Row,
    affordable_side,
    build,
    compiled_throughout,
    failures_explained,
    timed_rounds,
)
from evaluation.utils.errors import UserError
from tests.evaluation.benchmark.toys import CPU, SIZE, Toy

ROUNDS = 8


class Product:
    """In place of a matrix product."""

    name = 'matrix product'

    def __init__(self, log):
        self.log = log

    def time(self):
        self.log.append(self.name)
        return len(self.log)


@pytest.fixture
def images():
    return random_images(SIZE, CPU.device, seed=0)


def rows_of(*subjects, mode=CPU, images=None):
    rows = [Row(subject, SIZE, mode) for subject in subjects]
    for row in rows:
        row.warm_up(images, progress=id)
    return rows


class TestOrder:
    @pytest.fixture
    def log(self, images):
        """Names of all passes and products in the order of time, and what progress was told."""
        log, told = [], []
        names = ('first', 'second', 'third')
        toys = [Toy(name, before=lambda _, name=name: log.append(name)) for name in names]
        rows = rows_of(*toys, images=images)
        assert log == [name for name in names for _ in range(UNTIMED_PASSES)]
        log.clear()
        self.seconds = timed_rounds(rows, images, Product(log), ROUNDS, 0, told.append)
        assert told == log
        assert all(len(row.figures.seconds) == ROUNDS for row in rows)
        return log

    def test_every_row_and_the_product_once_a_round(self, log):
        # One product warms up.
        assert log.pop(0) == Product.name
        rounds = [log[start : start + 4] for start in range(0, len(log), 4)]
        assert len(rounds) == ROUNDS
        for each in rounds:
            assert Counter(each) == Counter(['first', 'second', 'third', Product.name])
        assert len({tuple(each) for each in rounds}) > 1

    def test_times_of_the_product_are_those_of_the_rounds(self, log):
        places = [place + 1 for place, name in enumerate(log) if name == Product.name]
        assert self.seconds == places[1:]


class TestRow:
    def test_figures(self, images):
        (row,) = rows_of(Toy('toy', flops=5), images=images)
        row.time(images, id)
        assert row.figures.name == 'toy'
        assert row.figures.cost.flops == 5
        assert row.figures.first_pass_seconds > 0
        assert len(row.figures.seconds) == 1
        assert not row.figures.ran_out_of_memory

    @pytest.mark.parametrize('failing_pass', range(UNTIMED_PASSES + 2))
    def test_memory_that_runs_out_at_any_pass(self, images, failing_pass):
        passes = []

        def before(_):
            passes.append(None)
            if len(passes) > failing_pass:
                torch.empty(1, 3, 1_000_000, 1_000_000)

        (row,) = rows_of(Toy('toy', before), images=images)
        for _ in range(3):
            row.time(images, id)
        figures = row.figures
        assert figures.ran_out_of_memory
        assert (figures.name, figures.seconds, figures.first_pass_seconds) == ('toy', [], None)
        assert len(passes) == failing_pass + 1

    def test_images_that_do_not_fit(self):
        (row,) = rows_of(Toy('toy'), images=None)
        assert row.figures.ran_out_of_memory


class TestBuild:
    @pytest.mark.parametrize('backward', [False, True])
    def test_mode_of_the_network(self, backward):
        assert build(Toy('toy'), SIZE, Mode(CPU.device, backward=backward)).training == backward

    @pytest.mark.parametrize('compiled', [False, True])
    def test_only_the_part_to_compile_is_compiled(self, compiled):
        class Whole(Toy):
            def build(self, size):
                return nn.Sequential(super().build(size), nn.Identity())

            def part_to_compile(self, module):
                return module[0]

        whole = build(Whole('toy'), SIZE, Mode(CPU.device, compiled=compiled))
        assert (whole[0]._compiled_call_impl is not None) == compiled
        assert whole._compiled_call_impl is None
        assert whole[1]._compiled_call_impl is None


class TestFailures:
    def test_no_kernel_for_the_dtype(self, images):
        toy = Toy('toy', before=lambda _: torch.bincount(torch.ones(2, dtype=torch.float16)))
        with pytest.raises(UserError, match=r"toy does not run in fp16 on cpu: .* for 'Half'"):
            rows_of(toy, mode=Mode(CPU.device, 'fp16'), images=images)

    def test_a_batch_norm_with_a_single_value(self, images):
        toy = Toy('toy', before=lambda images: nn.BatchNorm2d(3)(images[:1, :, :1, :1]))
        with pytest.raises(UserError, match=r'toy cannot train on 2 images .* --batch'):
            rows_of(toy, images=images)

    def test_a_compiler_that_fails(self):
        def compiler(graph, inputs):
            raise RuntimeError('no compiler here\n\nlong advice')

        compiled = torch.compile(lambda x: x + 1, backend=compiler)
        expected = '^toy cannot be compiled: no compiler here; leave out --compile$'
        with pytest.raises(UserError, match=expected), failures_explained('toy', SIZE, CPU):
            compiled(torch.zeros(2))

    @pytest.mark.parametrize('error', [RuntimeError('shapes differ'), ValueError(''), KeyError('x')])
    def test_defects_stay_what_they_are(self, images, error):
        def before(_):
            raise error

        with pytest.raises(type(error)):
            rows_of(Toy('toy', before), images=images)


def test_many_rows_of_the_same_code_are_all_compiled():
    graphs = []

    def compiler(graph, inputs):
        graphs.append(graph)
        return graph.forward

    @torch.compile(backend=compiler, dynamic=False)
    def double(x):
        return 2 * x

    with compiled_throughout():
        for length in range(1, 21):
            assert double(torch.ones(length)).sum() == 2 * length
    assert len(graphs) == 20


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
    monkeypatch.setattr(MatrixProduct, 'time', lambda self: seconds)
    assert affordable_side(CPU) == side


def test_matrices_that_do_not_fit():
    with pytest.raises(UserError, match=r'matrices of 1000000x1000000 .* --matrix-side'):
        MatrixProduct(1_000_000, CPU)
