import pytest

from evaluation.benchmark import fitting
from evaluation.benchmark.fitting import largest_that_fits
from evaluation.benchmark.sizes import Size
from evaluation.utils.errors import UserError
from tests.evaluation.benchmark.toys import CPU, Toy, refuse_above


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
    monkeypatch.setattr(fitting, 'PATIENCE_SECONDS', 0.0)
    assert largest_that_fits(Toy('toy'), Size(1, 1024, 1024), CPU) == Size(1, 32, 32)


def test_sizes_that_a_peer_does_not_take_are_left_out():
    class Choosy(Toy):
        def build(self, size):
            if size.height % 128:
                raise UserError('multiples of 128')
            return super().build(size)

    toy = Choosy('toy', refuse_above(256 * 256))
    assert largest_that_fits(toy, Size(1, 1024, 1024), CPU) == Size(1, 256, 256)
