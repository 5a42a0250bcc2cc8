"""Whole benchmarks, and sizes that fit into memory."""

import re
import subprocess
import sys

import pytest

from evaluation.benchmark import measuring
from evaluation.benchmark.measuring import BenchmarkPlan, largest_that_fits, run
from evaluation.benchmark.passes import Mode, Size
from evaluation.utils import memory
from evaluation.utils.errors import UserError
from tests.commands import ROOT
from tests.evaluation.benchmark.toys import CPU, Toy, refuse_above

# A network that takes ten times the images' memory, where 400 MB are free.
FOR_REAL = """
import pytest
import torch
from evaluation.utils import memory
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
    def test_a_row_whose_memory_runs_out_does_not_stop_the_others(self):
        found = run(plan(Toy('small', refuse_above(64 * 64)), Toy('large')))
        assert [each.size for each in found] == SIZES
        failures = [[row.ran_out_of_memory for row in each.rows] for each in found]
        assert failures == [[False, False], [False, False], [True, False]]
        for each in found:
            assert [row.name for row in each.rows] == ['small', 'large']
            assert [len(row.seconds) for row in each.rows if not row.ran_out_of_memory].count(2) >= 1
            assert len(each.matrix_seconds) == 2

    def test_a_size_at_which_all_run_out(self):
        found = run(plan(Toy('small', refuse_above(64 * 64))))
        assert found[-1].rows[0].ran_out_of_memory
        assert found[-1].matrix_seconds == []

    def test_images_that_do_not_fit(self):
        found = run(plan(Toy('toy'), sizes=[SIZES[0], Size(1, 1_000_000, 1_000_000)]))
        assert [each.rows[0].ran_out_of_memory for each in found] == [False, True]

    def test_no_row_at_any_size(self):
        message = 'every row at every size, the smallest of which is 1 image of 32x32 '
        with pytest.raises(UserError, match=message):
            run(plan(Toy('small', refuse_above(1)), Toy('other', refuse_above(10))))


class TestSingleSize:
    def test_memory_that_runs_out_is_an_error_that_says_what_fits(self):
        passes = []
        toys = [Toy('large'), Toy('small', refuse_above(64 * 96)), Toy('last', passes.append)]
        message = re.escape(
            'small runs out of memory on 2 images of 128x192 (height x width) on cpu; '
            '1 image of 64x96 (height x width) fits'
        )
        with pytest.raises(UserError, match=f'^{message}$'):
            run(plan(*toys, sizes=[Size(2, 128, 192)]))
        assert not passes

    def test_nothing_smaller(self):
        with pytest.raises(UserError, match='nothing smaller was found to fit'):
            run(plan(Toy('toy', refuse_above(1)), sizes=[SIZES[1]]))

    @pytest.mark.skipif(memory.free_memory() is None, reason='what is free is not known here')
    def test_for_real(self):
        """In a process of its own, which holds no memory that others have given back."""
        subprocess.run([sys.executable, '-c', FOR_REAL], cwd=ROOT, check=True, timeout=300)


def test_a_size_that_a_subject_does_not_take_is_found_before_anything_runs():
    class Choosy(Toy):
        def cost(self, size):
            if size.height > 64:
                raise UserError('too large')
            return super().cost(size)

    passes = []
    with pytest.raises(UserError, match='too large'):
        run(plan(Toy('first', passes.append), Choosy('choosy')))
    assert not passes


def test_images_are_the_same_for_all_rows_and_for_every_run_of_a_seed():
    def means(seed):
        seen = []
        toys = [Toy(name, before=lambda images: seen.append(images.sum().item())) for name in 'ab']
        run(plan(*toys, sizes=SIZES[:1], seed=seed))
        return set(seen)

    assert means(0) == means(0)
    assert len(means(0)) == 1
    assert means(0) != means(1)


def test_progress_is_on_stderr_and_reaches_its_end(capfd):
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
def test_the_last_before_memory_runs_out(pixels, expected):
    assert largest_that_fits(Toy('toy', refuse_above(pixels)), Size(4, 256, 512), CPU) == expected


def test_no_attempt_after_one_that_fails():
    tried = []

    def before(images):
        tried.append(images[:, 0].numel())
        refuse_above(128 * 128)(images)

    largest_that_fits(Toy('toy', before), Size(1, 1024, 1024), CPU)
    assert tried == [32 * 32, 64 * 64, 128 * 128, 256 * 256]


def test_no_attempt_after_one_that_takes_long(monkeypatch):
    monkeypatch.setattr(measuring, 'PATIENCE_SECONDS', 0.0)
    assert largest_that_fits(Toy('toy'), Size(1, 1024, 1024), CPU) == Size(1, 32, 32)


def test_sizes_that_a_peer_does_not_take_are_left_out():
    class Choosy(Toy):
        def build(self, size):
            if size.height % 128:
                raise UserError('multiples of 128')
            return super().build(size)

    toy = Choosy('toy', refuse_above(256 * 256))
    assert largest_that_fits(toy, Size(1, 1024, 1024), CPU) == Size(1, 256, 256)
