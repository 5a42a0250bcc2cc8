import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.benchmark.cost import Cost
from evaluation.benchmark.passes import Mode
from evaluation.benchmark.rounds import Measurement, Measurements
from evaluation.benchmark.sizes import Size
from evaluation.benchmark.statistics import (
    peak_fraction,
    peak_rates,
    rates,
    relative_speed,
    spread_of,
)
from tests.evaluation.benchmark.toys import CPU

TIMES = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=20)
BACKWARD = Mode(CPU.device, backward=True)


def measurement(seconds, flops=1):
    return Measurement('toy', Cost(0, flops, ()), seconds=seconds)


def beside(matrix_seconds, batch=1, side=1):
    return Measurements(Size(batch, 32, 32), [], side, matrix_seconds)


def quantile(values, part):
    """By the definition: linear between the values that are next in order."""
    ordered = sorted(values)
    place = part * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


@given(TIMES)
def test_median_and_quartiles(values):
    spread = spread_of(values)
    expected = [quantile(values, part) for part in (0.25, 0.5, 0.75)]
    assert [spread.lower, spread.median, spread.upper] == pytest.approx(expected)


class TestRates:
    def test_two_operations_for_each_multiply_add_of_every_image(self):
        row, found = measurement([0.5, 2.0], flops=10), beside([1.0, 1.0], batch=3)
        assert rates(row, found, CPU) == [2 * 10 * 3 / 0.5, 2 * 10 * 3 / 2.0]

    def test_a_backward_pass_counts_twice_the_forward(self):
        row, found = measurement([0.5], flops=10), beside([1.0])
        assert rates(row, found, BACKWARD) == [3 * 2 * 10 / 0.5]

    def test_of_the_peak(self):
        assert peak_rates(beside([4.0, 0.5], side=10)) == [2 * 10**3 / 4.0, 2 * 10**3 / 0.5]

    def test_fraction_is_taken_within_each_round(self):
        # The machine slows down for all alike: the ratio stays, and that of the medians would not.
        row, found = measurement([1.0, 4.0, 3.0], flops=500), beside([1.0, 4.0, 9.0], side=10)
        assert peak_fraction(row, found, CPU) == pytest.approx(0.5)

    @given(TIMES, st.floats(0.01, 100))
    def test_a_matrix_product_reaches_its_peak(self, seconds, slowness):
        row = measurement([slowness * each for each in seconds], flops=7**3)
        assert peak_fraction(row, beside(seconds, side=7), CPU) == pytest.approx(1 / slowness)


class TestSpeed:
    def test_is_taken_within_each_round(self):
        reference, row = measurement([2.0, 8.0, 1.0]), measurement([1.0, 4.0, 7.0])
        assert relative_speed(row, reference) == 2.0

    @given(TIMES)
    def test_of_a_row_to_itself(self, seconds):
        assert relative_speed(measurement(seconds), measurement(seconds)) == 1.0
