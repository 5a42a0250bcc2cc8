"""Results of robustness: files, tables, figures and summaries."""

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from evaluation.analysis.results import csv_text, figure_bytes
from evaluation.analysis.robustness.conditions import CORRUPTIONS, Condition
from evaluation.analysis.robustness.presentation import draw_robustness, robustness_table
from evaluation.analysis.robustness.result import (
    Summary,
    csv_rows,
    read_profile,
    summarize,
    write_profile,
)
from evaluation.utils.text_tables import to_markdown
from tests.evaluation.analysis.robustness.profiles import PLAN, profile

NO_ATTACKS = replace(PLAN, attacks=[])
NO_CORRUPTIONS = replace(PLAN, corruptions=[])


def pixels(figure):
    with Image.open(io.BytesIO(figure_bytes(figure, 'png'))) as picture:
        return np.asarray(picture.convert('RGB'))


class TestFiles:
    @pytest.mark.parametrize('plan', [PLAN, NO_ATTACKS, NO_CORRUPTIONS])
    def test_round_trip(self, tmp_path, plan):
        before = profile(plan=plan)
        write_profile(before, tmp_path / 'robustness.json')
        after = read_profile(tmp_path / 'robustness.json')
        assert after == before
        assert after.name == 'upernet_swin_tiny (iter_160000)'

    def test_summary_follows_michaelis_et_al(self, tmp_path):
        write_profile(profile(), tmp_path / 'robustness.json')
        content = json.loads((tmp_path / 'robustness.json').read_text())
        expected = 60 - np.mean([2 * s + c for c in range(15) for s in (1, 3, 5)])
        found = content['summary']['mIoU']
        assert found['clean'] == 60
        assert found['mPC'] == pytest.approx(expected)
        assert found['rPC'] == pytest.approx(100 * expected / 60)
        assert 'aAcc' not in content['summary']
        assert content['plan']['unit_of_budgets'].startswith('largest change of a pixel')

    def test_undefined_metric(self, tmp_path):
        before = profile()
        before.results[3].metrics['mIoU'] = math.nan
        write_profile(before, tmp_path / 'robustness.json')
        after = read_profile(tmp_path / 'robustness.json')
        assert math.isnan(after.results[3].metrics['mIoU'])

    def test_csv_has_a_row_for_each_condition(self):
        rows = list(csv.DictReader(io.StringIO(csv_text(csv_rows(profile())))))
        assert len(rows) == 1 + 2 * 2 + 15 * 3
        assert [row['kind'] for row in rows[:6]] == ['clean', *['attack'] * 4, 'corruption']
        row = next(row for row in rows if (row['condition'], row['level']) == ('pgd', '4.0'))
        assert (float(row['mIoU']), float(row['aAcc']), float(row['loss'])) == (40.0, 30.0, 4.5)
        assert float(row['relative mIoU']) == pytest.approx(100 * 40 / 60)


class TestTable:
    def test_one_model(self):
        text = to_markdown(robustness_table([profile()]))
        heading, _, row = text.splitlines()[2:5]
        assert [cell.strip() for cell in heading.split('|')[1:-1]] == [
            'Model', 'Metric', 'Images', 'Clean', 'FGSM 1', 'FGSM 4', 'PGD 1', 'PGD 4',
            'Noise', 'Blur', 'Weather', 'Digital', 'mPC', 'rPC',
        ]  # fmt: skip
        cells = [cell.strip() for cell in row.split('|')[1:-1]]
        assert cells[1:9] == ['mIoU', '12', '60.0', '55.0', '40.0', '55.0', '40.0', '53.0']
        assert 'PGD with 10 steps' in text
        assert '15 of 15 corruptions, severities 1, 3, 5' in text

    def test_budgets_that_one_model_lacks(self):
        other = profile('upernet_dcn_tiny', plan=replace(PLAN, budgets=[4.0, 8.0]))
        rows = to_markdown(robustness_table([profile(), other])).splitlines()[2:]
        assert 'PGD 8' in rows[0]
        assert rows[2].split('|')[7].strip() == '–'
        assert rows[3].split('|')[5].strip() == '–'

    def test_two_metrics_of_a_detector(self):
        found = profile('mask_rcnn_dcn_tiny', 'detection', ('box AP', 'box AP50', 'mask AP'))
        rows = to_markdown(robustness_table([found])).splitlines()[4:6]
        assert [row.split('|')[2].strip() for row in rows] == ['box AP', 'mask AP']

    @pytest.mark.parametrize('plan', [NO_ATTACKS, NO_CORRUPTIONS])
    def test_attacks_or_corruptions_only(self, plan):
        text = to_markdown(robustness_table([profile(plan=plan)]))
        assert ('PGD' in text) == bool(plan.attacks)
        assert ('mPC' in text) == bool(plan.corruptions)


class TestFigure:
    @pytest.mark.parametrize('plan', [PLAN, NO_ATTACKS, NO_CORRUPTIONS, replace(PLAN, attacks=['pgd'])])
    @pytest.mark.parametrize('count', [1, 3])
    def test_draws_available_results(self, plan, count):
        shown = [profile(f'model{number}', plan=plan, clean=60.0 + number) for number in range(count)]
        picture = pixels(draw_robustness(shown))
        assert picture.shape[1] > 600
        assert len(np.unique(picture)) > 50
        assert (picture.mean((1, 2)) < 255).mean() > 0.5

    def test_shows_the_values(self):
        figure = draw_robustness([profile()])
        axes = figure.get_axes()
        lines = [line.get_ydata() for line in axes[1].get_lines()]
        assert [list(line) for line in lines] == [[60.0, 55.0, 40.0]]
        grid = next(each for each in axes if each.get_images())
        assert [text.get_text() for text in grid.texts][:3] == ['58.0', '54.0', '50.0']
        assert len(grid.texts) == 45
        assert 'mPC' in grid.get_title()

    def test_model_with_zero_accuracy(self):
        assert pixels(draw_robustness([profile(clean=0.0)])).size

    def test_same_bytes_for_the_same_result(self):
        first, second = (figure_bytes(draw_robustness([profile()]), 'pdf') for _ in range(2))
        assert first == second


def test_value_of_a_condition_that_was_not_measured():
    assert math.isnan(profile().value(Condition('pgd', 3.0), 'mIoU'))
    assert profile().value(Condition(CORRUPTIONS[2], 1), 'mIoU') == 56.0


@pytest.mark.parametrize(
    ('plan', 'figures'),
    [
        (PLAN, {'FGSM 1': 55.0, 'PGD 1': 55.0, 'mPC': 47.0, 'rPC': 100 * 47 / 60}),
        (replace(PLAN, corruptions=[]), {'FGSM 1': 55.0, 'PGD 1': 55.0}),
        (replace(PLAN, attacks=[], severities=[1]), {'mPC': 51.0, 'rPC': 85.0}),
    ],
)
def test_columns_next_to_accuracy(plan, figures):
    """Attacks use the smallest budget; the mean corruption costs 7 points more than its severity."""
    found = profile(plan=plan).as_json()['columns']
    assert found['figures'] == pytest.approx(figures)
    assert found['note'].endswith('images: 12.')


def test_means_over_severities_then_corruptions():
    found = summarize(50.0, [[40.0, 20.0], [10.0, 10.0]])
    assert found == Summary(clean=50.0, mpc=20.0, rpc=40.0)


def test_corruptions_have_equal_weight():
    assert summarize(100.0, [[10.0], [20.0, 40.0]]).mpc == pytest.approx((10 + 30) / 2)


def test_rpc_is_undefined_for_zero_clean():
    assert summarize(0.0, [[1.0]]) == Summary(clean=0.0, mpc=1.0, rpc=None)


@pytest.mark.parametrize(('clean', 'corrupted'), [(1.0, []), (math.nan, [[1.0]]), (1.0, [[math.nan]])])
def test_undefined_summary(clean, corrupted):
    assert summarize(clean, corrupted) is None
