"""Rounding in tables, sentences and the report's script, and formats of times."""

import json
import shutil
import subprocess
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.tables.columns import printed
from evaluation.utils.formats import clock, fixed, signed, significant
from tests.commands import ROOT

SCRIPT = ROOT / 'evaluation/report/assets/data.js'
FIGURES = st.floats(-1e6, 1e6) | st.integers(-(10**6), 10**6).map(lambda n: n / 1000)
TIES = [
    (62.25, 1, '62.3'),
    (62.35, 1, '62.4'),
    (0.05, 1, '0.1'),
    (2.675, 2, '2.68'),
    (1.005, 2, '1.01'),
    (0.5, 0, '1'),
    (1.5, 0, '2'),
    (2.5, 0, '3'),
    (-62.25, 1, '-62.3'),
    (-0.05, 1, '-0.1'),
    (-0.04, 1, '0.0'),
    (-0.0, 1, '0.0'),
    (0.0, 2, '0.00'),
    (99.95, 1, '100.0'),
    (62.24999999999999, 1, '62.2'),
    (1e-9, 2, '0.00'),
    (123456789.0, 1, '123456789.0'),
    (1e22, 1, '10000000000000000000000.0'),
]
SIGNIFICANT = [
    (1234.5, '1230'),
    (0.0125, '0.0125'),
    (0.012345, '0.0123'),
    (1.125, '1.13'),
    (9.996, '10'),
    (2.5, '2.5'),
    (-1.125, '-1.13'),
    (0.0, '0'),
    (100.0, '100'),
]


@pytest.mark.parametrize(('value', 'digits', 'expected'), TIES)
def test_ties_are_decided_in_decimal(value, digits, expected):
    assert fixed(value, digits) == expected
    assert fixed(np.float64(value), digits) == expected


@pytest.mark.parametrize(('value', 'expected'), SIGNIFICANT)
def test_significant_digits(value, expected):
    assert significant(value) == expected


def test_signs():
    assert [signed(value, 1) for value in (0.25, -0.25, 0.04, -0.04, -0.0)] == [
        '+0.3',
        '-0.3',
        '0.0',
        '0.0',
        '0.0',
    ]


def test_tables_use_the_rounding_rule():
    assert str(printed(62.25, 'classification')) == '62.3'
    assert str(printed(-0.0, 'instance_segmentation')) == '0.0'
    assert str(printed(44.505, 'semantic_segmentation')) == '44.51'


@given(FIGURES, st.integers(0, 4))
def test_rounding_is_to_nearest(value, digits):
    by_hand = abs(Decimal(repr(value))).quantize(Decimal(10) ** -digits, rounding=ROUND_HALF_UP)
    assert Decimal(fixed(value, digits)) == (by_hand if value > 0 else -by_hand)


def test_report_script_rounds_the_same():
    """Run the script in Node; the browser test also runs it, in a page."""
    node = shutil.which('node')
    if node is None:
        pytest.skip('needs Node')
    random = np.random.default_rng(0)
    values = [value for value, *_ in TIES] + [value for value, _ in SIGNIFICANT]
    values += (random.integers(-(10**5), 10**5, 2000) / 1000).tolist()
    values += (random.standard_normal(500) * 10.0 ** random.integers(-6, 12, 500)).tolist()
    text = SCRIPT.read_text()
    functions = text[text.index('const MINUS') : text.index('function runsOf')]
    calls = (
        f'const values = {json.dumps(values)};'
        'const all = values.map((v) => [0, 1, 2, 3].map((d) => fixed(v, d)).concat(significant(v)));'
        'console.log(JSON.stringify(all));'
    )
    outcome = subprocess.run([node, '-e', functions + calls], capture_output=True, text=True, check=True)
    expected = [[*(fixed(value, d) for d in range(4)), significant(value)] for value in values]
    assert json.loads(outcome.stdout.replace('\N{MINUS SIGN}', '-')) == expected


def test_clock():
    assert [clock(s) for s in (0, 59, 61, 119.7, 187, 3600)] == [
        '0:00', '0:59', '1:01', '2:00', '3:07', '60:00',
    ]  # fmt: skip
