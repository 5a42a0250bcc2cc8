"""Measure all subjects in rounds together with a matrix product."""

import re
import subprocess
import sys
from collections import Counter

import pytest
import torch
from torch import nn

from evaluation.benchmark import measuring
from evaluation.benchmark.measuring import (
    UNTIMED_PASSES,
    BenchmarkPlan,
    MeasuredRow,
    build,
    largest_that_fits,
    run,
    timed_rounds,
)
from evaluation.benchmark.passes import (
    MatrixProduct,
    Mode,
    Size,
    affordable_side,
    compiled_throughout,
    failures_explained,
    random_images,
)
from evaluation.utils import devices as memory
from evaluation.utils.errors import UserError
from tests.commands import ROOT
from tests.evaluation.benchmark.toys import CPU, SIZE, Toy, refuse_above

ROUNDS = 8


class Product:
    """Fake matrix product."""

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
    rows = [MeasuredRow(subject, SIZE, mode) for subject in subjects]
    for row in rows:
        row.warm_up(images, progress=id)
    return rows


class TestOrder:
    @pytest.fixture
    def log(self, images):
        """Names of all passes and products in chronological order; progress reports must match."""
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

    def test_times_of_the_product_exclude_the_warm_up(self, log):
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
    def test_running_out_of_memory_at_any_pass(self, images, failing_pass):
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

    def test_batch_norm_with_a_single_value(self, images):
        toy = Toy('toy', before=lambda images: nn.BatchNorm2d(3)(images[:1, :, :1, :1]))
        with pytest.raises(UserError, match=r'toy cannot train on 2 images .* --batch'):
            rows_of(toy, images=images)

    def test_failing_compiler(self):
        def compiler(graph, inputs):
            raise RuntimeError('no compiler here\n\nlong advice')

        compiled = torch.compile(lambda x: x + 1, backend=compiler)
        expected = '^toy cannot be compiled: no compiler here; omit --compile$'
        with pytest.raises(UserError, match=expected), failures_explained('toy', SIZE, CPU):
            compiled(torch.zeros(2))

    @pytest.mark.parametrize('error', [RuntimeError('shapes differ'), ValueError(''), KeyError('x')])
    def test_other_errors_are_not_changed(self, images, error):
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
def test_multiplies_two_matrices_of_the_dtype(monkeypatch, dtype, expected):
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
    # Seconds for 512x512 matrices; 4096x4096 matrices take 8^3 times as long.
    [(1e-3, 4096), (19 / 8**3, 4096), (21 / 8**3, 2048), (21 / 4**3, 1024), (1e3, 512)],
)
def test_side_is_halved_if_a_product_would_take_too_long(monkeypatch, seconds, side):
    monkeypatch.setattr(MatrixProduct, 'time', lambda self: seconds)
    assert affordable_side(CPU) == side


def test_matrices_that_do_not_fit():
    with pytest.raises(UserError, match=r'matrices of 1000000x1000000 .* --matrix-side'):
        MatrixProduct(1_000_000, CPU)


# A network that needs ten times the memory of the images, with 400 MB free.
FOR_REAL = """
import pytest
import torch
from evaluation.utils import devices as memory
from tests.evaluation.benchmark.test_measuring import Size, Toy, UserError, plan, run
memory.free_memory = lambda: 400 * 10**6
bytes_at = {side: 11 * 12 * side**2 for side in (1024, 2048)}
assert bytes_at[1024] < 300e6 < 500e6 < bytes_at[2048]
toy = Toy('toy', lambda images: [images + 1 for _ in range(10)])
with pytest.raises(UserError, match=r'on 1 image of 2048x2048 .*; 1 image of 1024x1024 .* fits'):
    run(plan(toy, sizes=[Size(1, 2048, 2048)]))
assert torch.ones(10**8).sum() == 10**8
"""

SIZES = [Size(1, side, side) for side in (32, 64, 128)]


def plan(*subjects, sizes=SIZES, mode=CPU, seed=0):
    return BenchmarkPlan(subjects, sizes, mode, rounds=2, matrix_side=16, seed=seed)


class TestGrowth:
    def test_row_that_runs_out_of_memory_does_not_stop_the_others(self):
        found = run(plan(Toy('small', refuse_above(64 * 64)), Toy('large')))
        assert [each.size for each in found] == SIZES
        failures = [[row.ran_out_of_memory for row in each.rows] for each in found]
        assert failures == [[False, False], [False, False], [True, False]]
        for each in found:
            assert [row.name for row in each.rows] == ['small', 'large']
            assert [len(row.seconds) for row in each.rows if not row.ran_out_of_memory].count(2) >= 1
            assert len(each.matrix_seconds) == 2

    def test_size_at_which_all_run_out_of_memory(self):
        found = run(plan(Toy('small', refuse_above(64 * 64))))
        assert found[-1].rows[0].ran_out_of_memory
        assert found[-1].matrix_seconds == []

    def test_images_that_do_not_fit(self):
        found = run(plan(Toy('toy'), sizes=[SIZES[0], Size(1, 1_000_000, 1_000_000)]))
        assert [each.rows[0].ran_out_of_memory for each in found] == [False, True]

    def test_no_row_fits_at_any_size(self):
        message = r'every row at every size, even the smallest \(1 image of 32x32 '
        with pytest.raises(UserError, match=message):
            run(plan(Toy('small', refuse_above(1)), Toy('other', refuse_above(10))))


class TestSingleSize:
    def test_running_out_of_memory_is_an_error_that_says_what_fits(self):
        passes = []
        toys = [Toy('large'), Toy('small', refuse_above(64 * 96)), Toy('last', passes.append)]
        message = re.escape(
            'small runs out of memory on 2 images of 128x192 (height x width) on cpu; '
            '1 image of 64x96 (height x width) fits'
        )
        with pytest.raises(UserError, match=f'^{message}$'):
            run(plan(*toys, sizes=[Size(2, 128, 192)]))
        assert not passes

    def test_nothing_smaller_fits(self):
        with pytest.raises(UserError, match='nothing smaller was found to fit'):
            run(plan(Toy('toy', refuse_above(1)), sizes=[SIZES[1]]))

    @pytest.mark.skipif(memory.free_memory() is None, reason='free memory is unknown here')
    def test_real_memory(self):
        """Run in a new process, which holds no freed memory of other tests."""
        subprocess.run([sys.executable, '-c', FOR_REAL], cwd=ROOT, check=True, timeout=300)


def test_unsupported_size_is_found_before_anything_runs():
    class Choosy(Toy):
        def cost(self, size):
            if size.height > 64:
                raise UserError('too large')
            return super().cost(size)

    passes = []
    with pytest.raises(UserError, match='too large'):
        run(plan(Toy('first', passes.append), Choosy('choosy')))
    assert not passes


def test_images_are_the_same_for_all_rows_and_for_all_runs_with_a_seed():
    def means(seed):
        seen = []
        toys = [Toy(name, before=lambda images: seen.append(images.sum().item())) for name in 'ab']
        run(plan(*toys, sizes=SIZES[:1], seed=seed))
        return set(seen)

    assert means(0) == means(0)
    assert len(means(0)) == 1
    assert means(0) != means(1)


def test_progress_is_on_stderr_and_complete(capfd):
    run(plan(Toy('toy'), sizes=SIZES[:1], mode=Mode(CPU.device, backward=True)))
    out, err = capfd.readouterr()
    assert out == ''
    assert '1 image of 32x32' in err
    assert '/8 [' in err


@pytest.mark.parametrize(
    ('pixels', 'expected'),
    [
        (2 * 256 * 512, Size(2, 256, 512)),
        (256 * 512, Size(1, 256, 512)),
        (256 * 512 - 1, Size(1, 128, 256)),
        (32 * 64, Size(1, 32, 64)),
        (10, None),
    ],
)
def test_largest_size_before_memory_runs_out(pixels, expected):
    assert largest_that_fits(Toy('toy', refuse_above(pixels)), Size(4, 256, 512), CPU) == expected


def test_no_attempt_after_a_failed_one():
    tried = []

    def before(images):
        tried.append(images[:, 0].numel())
        refuse_above(128 * 128)(images)

    largest_that_fits(Toy('toy', before), Size(1, 1024, 1024), CPU)
    assert tried == [32 * 32, 64 * 64, 128 * 128, 256 * 256]


def test_no_attempt_after_a_slow_one(monkeypatch):
    monkeypatch.setattr(measuring, 'PATIENCE_SECONDS', 0.0)
    assert largest_that_fits(Toy('toy'), Size(1, 1024, 1024), CPU) == Size(1, 32, 32)


def test_unsupported_sizes_of_a_peer_are_skipped():
    class Choosy(Toy):
        def build(self, size):
            if size.height % 128:
                raise UserError('multiples of 128')
            return super().build(size)

    toy = Choosy('toy', refuse_above(256 * 256))
    assert largest_that_fits(toy, Size(1, 1024, 1024), CPU) == Size(1, 256, 256)
