"""Tables of distribution shift and of calibration errors."""

import csv
import io
import json

import numpy as np
import pytest

from evaluation.metrics.class_records import collect_guesses
from evaluation.results.reading import load_results
from evaluation.results.shifted import shifted_runs
from evaluation.tables.calibration_table import calibration_tables
from evaluation.tables.shifted_table import shifted_tables
from evaluation.tables.table import render
from evaluation.utils.text_tables import DASH, to_latex, to_markdown
from tests.evaluation.metrics.problems import write_result
from tests.evaluation.results.shifted_folders import write_shifted_run
from tests.evaluation.tables.test_table import table_columns
from tests.refusals import refusal


@pytest.fixture
def shifted(tmp_path):
    write_shifted_run(tmp_path / 'a', 'swin_tiny', 'one')
    write_shifted_run(tmp_path / 'b', 'dcn_small', 'two')
    return load_results([tmp_path])


def test_figures_in_distribution_beside_those_under_shift(shifted):
    (table,) = shifted_tables(shifted)
    assert table.title == 'Detection on COCO val2017, in distribution beside COCO-O'
    columns = table_columns(table)
    assert columns['Backbone'] == ['swin_tiny', 'dcn_small']
    for row, run in enumerate(shifted_runs(shifted)):
        values = [run.inside, *run.domains.values()]
        names = ['box AP', *run.domains]
        for name, result in zip(names, values, strict=True):
            assert columns[name][row] == f'{result.metrics["box_AP"]:.1f}'
        assert columns['COCO-O mean'][row] == f'{run.mean:.1f}'
        assert columns['ER'][row] == f'{run.effective_robustness:.1f}'.replace('-', '−')
    assert 'minus 0.45 times the box AP in distribution' in table.notes[0]
    assert '30 images' in table.notes[0]
    assert 'COCO-O mean' in to_latex(table)


def test_intervals_are_shown_on_request(shifted):
    (table,) = shifted_tables(shifted, resamples=200)
    columns = table_columns(table)
    assert all(' to ' in cell for cell in (*columns['ER'], *columns['COCO-O mean'], *columns['tattoo']))
    assert 'from 200 resamples' in table.notes[-1]


def test_no_table_without_tests_under_shift(shifted):
    assert shifted_tables([each for each in shifted if each.domain is None]) == []


def write_classifier(folder, backbone, confidence, calibration):
    confidence = np.asarray(confidence)
    names = [f'{number}.jpg' for number in range(len(confidence))]
    guesses = [(0, number % 2, 5 * (number % 2)) for number in range(len(confidence))]
    evidence = collect_guesses(names, guesses, ('a', 'b'), confidence)
    write_result(folder, evidence, backbone, calibration=calibration)


def test_calibration_errors_and_their_intervals(tmp_path):
    # Half of the images are right, with a confidence of 0.8.
    write_classifier(tmp_path / 'a', 'swin_tiny', 60 * [0.8], {'ECE': 30.0})
    write_classifier(tmp_path / 'b', 'dcn_tiny', 60 * [0.6], None)
    results = load_results([tmp_path])
    rows = csv.DictReader(io.StringIO(render(results, [], 'csv')))
    assert {row['backbone']: row['ECE'] for row in rows} == {'swin_tiny': '30.0', 'dcn_tiny': ''}
    (table,) = calibration_tables(results)
    columns = table_columns(table)
    assert dict(zip(columns['Backbone'], columns['ECE'], strict=True)) == {
        'swin_tiny': '30.0',
        'dcn_tiny': DASH,
    }
    assert table.notes[-1] == f'{DASH}: not stored, or undefined.'
    assert '### ' in to_markdown(table)
    (table,) = calibration_tables(results[:1], resamples=200)
    value, _, ends = table_columns(table)['ECE'][0].partition(' ')
    low, high = map(float, ends.strip('()').split(' to '))
    assert value == '30.0'
    # A share of 60 images has a standard deviation of 6.5 points.
    assert low == pytest.approx(30 - 1.96 * 6.5, abs=3)
    assert high == pytest.approx(30 + 1.96 * 6.5, abs=3)


def test_no_result_has_calibration_errors(tmp_path):
    write_classifier(tmp_path / 'a', 'swin_tiny', [0.8, 0.7], None)
    message = refusal(calibration_tables, load_results([tmp_path]))
    assert message.startswith('--calibration: no result has calibration errors')


@pytest.mark.parametrize('value', [-1, 200, 'x'])
def test_invalid_errors_are_refused(tmp_path, value):
    write_classifier(tmp_path / 'a', 'swin_tiny', [0.8, 0.7], {'ECE': 3.0})
    file = tmp_path / 'a/result.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | {'calibration': {'ECE': value}}))
    assert 'calibration.ECE' in refusal(load_results, [tmp_path])
