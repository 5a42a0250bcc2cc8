"""Tables and JSON of a benchmark, and their statistics."""

import json
from math import log10

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluation.benchmark.measuring import BenchmarkPlan, Measurement, Measurements
from evaluation.benchmark.passes import Mode, Size
from evaluation.benchmark.speed_report import (
    as_json,
    peak_fraction,
    peak_rates,
    precision,
    rates,
    relative_speed,
    render,
    significant,
    spread_of,
)
from evaluation.benchmark.subjects import Cost
from evaluation.utils.files import json_text
from tests.evaluation.benchmark.toys import CPU, Toy

TIMES = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=20)
BACKWARD = Mode(CPU.device, backward=True)


def measurement(seconds, flops=1):
    return Measurement('toy', Cost(0, flops, ()), seconds=seconds)


def beside(matrix_seconds, batch=1, side=1):
    return Measurements(Size(batch, 32, 32), [], side, matrix_seconds)


def quantile(values, part):
    """Compute a quantile by definition: linear between neighboring values."""
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
    def test_each_multiply_add_counts_as_two_operations(self):
        row, found = measurement([0.5, 2.0], flops=10), beside([1.0, 1.0], batch=3)
        assert rates(row, found, CPU) == [2 * 10 * 3 / 0.5, 2 * 10 * 3 / 2.0]

    def test_a_backward_pass_counts_twice_the_forward(self):
        row, found = measurement([0.5], flops=10), beside([1.0])
        assert rates(row, found, BACKWARD) == [3 * 2 * 10 / 0.5]

    def test_peak_rates(self):
        assert peak_rates(beside([4.0, 0.5], side=10)) == [2 * 10**3 / 4.0, 2 * 10**3 / 0.5]

    def test_fraction_is_computed_within_each_round(self):
        # The machine slows down for all rows: the ratio does not change, but that of medians would.
        row, found = measurement([1.0, 4.0, 3.0], flops=500), beside([1.0, 4.0, 9.0], side=10)
        assert peak_fraction(row, found, CPU) == pytest.approx(0.5)

    @given(TIMES, st.floats(0.01, 100))
    def test_a_matrix_product_reaches_its_peak(self, seconds, slowness):
        row = measurement([slowness * each for each in seconds], flops=7**3)
        assert peak_fraction(row, beside(seconds, side=7), CPU) == pytest.approx(1 / slowness)


class TestSpeed:
    def test_is_computed_within_each_round(self):
        reference, row = measurement([2.0, 8.0, 1.0]), measurement([1.0, 4.0, 7.0])
        assert relative_speed(row, reference) == 2.0

    @given(TIMES)
    def test_of_a_row_relative_to_itself(self, seconds):
        assert relative_speed(measurement(seconds), measurement(seconds)) == 1.0


FAST = Cost(parameters=1_500_000, flops=2_000_000_000, uncounted_operators=())
SLOW = Cost(parameters=2_500_000, flops=3_000_000_000, uncounted_operators=('aten::odd',))


def measured(size, failed=()):
    """Return two rows with three rounds; in the second round both are twice as slow."""
    rows = [
        Measurement('fast', FAST, [0.1, 0.2, 0.11], 0.5, 3_000_000),
        Measurement('slow', SLOW, [0.4, 0.8, 0.44], 1.5, 45_600_000),
    ]
    for name in failed:
        place = [row.name for row in rows].index(name)
        rows[place] = Measurement(name, rows[place].cost, ran_out_of_memory=True)
    return Measurements(size, rows, 1000, [0.02, 0.04, 0.022])


def plan_of(*sizes, mode=CPU, note=None):
    return BenchmarkPlan(
        [Toy('fast', note=note), Toy('slow')], sizes, mode, rounds=3, matrix_side=1000, seed=0
    )


def tables_of(text):
    """Return the rows of each table as dicts, by its heading."""
    tables = {}
    for block in text.split('### ')[1:]:
        heading, *lines = block.splitlines()
        cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines if '|' in line]
        header, _, *rows = cells
        tables[heading] = [dict(zip(header, row, strict=True)) for row in rows]
    return tables


class TestTable:
    def test_cells(self):
        size = Size(2, 64, 96)
        text = render(plan_of(size), 'toys', [measured(size)])
        ((heading, (fast, slow)),) = tables_of(text).items()
        assert heading == 'Forward on 2 images of 64x96 (height x width), fp32'
        assert fast == {
            'Subject': 'fast',
            'Params (M)': '1.50',
            'FLOPs (G)': '2.00',
            'Time (ms)': '110',
            'Quartiles (ms)': '105–155',
            'Images/s': '18.2',
            'GFLOP/s': '72.7',  # 2 operations x 2 images x 2 G in 0.11 s
            'Of peak': '80.0%',  # the peak is 2 operations x 1 G in 0.022 s
            'Memory (MB)': '3.00',
            'Speed': '1.00',
        }
        assert slow['FLOPs (G)'] == '3.00§'
        assert slow['Of peak'] == '30.0%'
        assert slow['Speed'] == '0.25'
        assert slow['Memory (MB)'] == '45.6'
        assert '1000x1000 matrices in fp32, 90.9 GFLOP/s (quartiles 70.5–95.5)' in text
        assert '§ slow: excludes operators without a FLOP formula: aten::odd' in text

    def test_header_states_the_conditions(self):
        size = Size(1, 64, 64)
        mode = Mode(CPU.device, 'bf16', backward=True, compiled=True)
        text = render(plan_of(size, mode=mode, note='half of it'), 'toys', [measured(size)])
        for fact in (
            f'PyTorch {torch.__version__}',
            'bf16 by autocast, weights fp32',
            '3 rounds',
            'train mode',
            'backbones compiled',
            'Timed: toys',
            'multiply-adds',
            'beyond weights and images',
            'fast: half of it.',
        ):
            assert fact in text
        ((heading, (fast, _)),) = tables_of(text).items()
        assert heading.startswith('Forward and backward on')
        assert fast['First pass (s)'] == '0.500'
        # Three times the FLOPs of a forward over one image.
        assert fast['GFLOP/s'] == '109'

    def test_rates_of_fast_machines_are_in_teraflops(self):
        size = Size(1, 64, 64)
        found = Measurements(size, measured(size).rows, 20_000, [0.02] * 3)
        text = render(plan_of(size), 'toys', [found])
        ((_, (fast, _)),) = tables_of(text).items()
        assert fast['TFLOP/s'] == '0.0364'
        assert '800 TFLOP/s (quartiles 800–800)' in text

    def test_growth(self):
        sizes = [Size(1, 64, 64), Size(1, 128, 128), Size(1, 256, 256)]
        failures = [(), ('slow',), ('fast', 'slow')]
        results = [measured(size, failed) for size, failed in zip(sizes, failures, strict=True)]
        tables = tables_of(render(plan_of(*sizes), 'toys', results))
        assert len(tables) == 4
        assert tables['Time (ms) by size'] == [
            {'Subject': 'fast', '64x64': '110', '128x128': '110', '256x256': 'out of memory'},
            {'Subject': 'slow', '64x64': '440', '128x128': 'out of memory', '256x256': 'out of memory'},
        ]
        slow = tables['Forward on 1 image of 128x128 (height x width), fp32'][1]
        assert slow['Time (ms)'] == 'out of memory'
        assert {slow[name] for name in ('Images/s', 'GFLOP/s', 'Of peak', 'Memory (MB)', 'Speed')} == {
            '–'
        }
        assert slow['FLOPs (G)'] == '3.00§'

    def test_growth_of_the_batch_when_the_first_row_fails(self):
        sizes = [Size(1, 64, 64), Size(4, 64, 64)]
        results = [measured(sizes[0]), measured(sizes[1], failed=('fast',))]
        tables = tables_of(render(plan_of(*sizes), 'toys', results))
        assert list(tables['Time (ms) by batch'][0]) == ['Subject', '1', '4']
        slow = tables['Forward on 4 images of 64x64 (height x width), fp32'][1]
        assert (slow['Time (ms)'], slow['Speed']) == ('440', '–')


class TestJson:
    def test_has_every_time(self):
        sizes = [Size(1, 64, 64), Size(1, 128, 128)]
        results = [measured(sizes[0]), measured(sizes[1], failed=('slow',))]
        found = json.loads(json_text(as_json(plan_of(*sizes, note='half'), 'toys', results)))
        assert found['dtype'] == 'fp32'
        assert found['notes'] == {'fast': 'half'}
        assert found['machine']['threads'] == torch.get_num_threads()
        assert found['versions']['torch']
        first, second = found['results']
        assert first['size'] == {'batch': 1, 'height': 64, 'width': 64}
        assert first['matrix_seconds'] == [0.02, 0.04, 0.022]
        assert first['rows'][1]['seconds'] == [0.4, 0.8, 0.44]
        assert first['rows'][1]['cost']['uncounted_operators'] == ['aten::odd']
        assert first['rows'][1]['memory_bytes'] == 45_600_000
        assert second['rows'][1]['ran_out_of_memory']
        assert second['rows'][1]['seconds'] == []


class TestNumbers:
    @pytest.mark.parametrize(
        ('value', 'text'),
        [
            (0, '0'),
            (0.012345, '0.0123'),
            (1.2345, '1.23'),
            (12.345, '12.3'),
            (123.45, '123'),
            (12345, '12345'),
        ],
    )
    def test_three_significant_digits(self, value, text):
        assert significant(value) == text

    @given(st.floats(1e-9, 1e9))
    def test_rounding_error(self, value):
        assert float(significant(value)) == pytest.approx(value, rel=0.5 * 10**-2 + 1e-9)
        assert len(significant(value).replace('.', '').lstrip('0')) <= max(4, log10(value) + 2)

    @pytest.mark.parametrize(
        ('dtype', 'tf32', 'expected'),
        [
            ('fp32', None, 'fp32'),
            ('fp32', {'matrix_products': False, 'convolutions': False}, 'fp32, without TF32'),
            (
                'fp32',
                {'matrix_products': False, 'convolutions': True},
                'fp32, with TF32 for convolutions',
            ),
            ('fp16', {'matrix_products': True, 'convolutions': True}, 'fp16 by autocast, weights fp32'),
        ],
    )
    def test_precision(self, dtype, tf32, expected):
        assert precision(Mode(CPU.device, dtype), tf32) == expected
