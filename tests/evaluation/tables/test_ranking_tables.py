"""Text, CSV, JSON and chart of rankings with known orders."""

import csv
import io
import json
import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from PIL import Image
from PIL.ImageColor import getrgb

from evaluation.statistics.rank_agreement import Agreement, chance_of_tau, tau_b
from evaluation.tables.bump_chart import PALETTE, draw_bump_chart, places, turning
from evaluation.tables.ranking_tables import few_contestants_text, letter, ranking_text, verdict
from tests.evaluation.statistics.test_ranking import NAMES, detector, published_entry, ranked


@pytest.fixture
def ranking(tmp_path):
    """A ranking of two columns, with one reversal: of the best two."""
    scores = {'scratch': (44, 43, 42, 41), 'released': (43, 44, 42, 41)}
    results = [
        detector(tmp_path, name, score, initialization=start)
        for start, column in scores.items()
        for name, score in zip(NAMES, column, strict=True)
    ]
    entries = [published_entry(name, 50 + place) for place, name in enumerate(NAMES[:3])]
    return ranked(results, published=entries)


def rows_of(text, title):
    """Return the rows of the Markdown table below a heading, by their first cell."""
    lines = text.split(f'### {title}')[1].split('###')[0].splitlines()
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines if line[:1] == '|']
    return {row[0]: row[1:] for row in rows}


def test_tables(ranking):
    text = ranking_text(ranking, 'markdown')
    ranks = rows_of(text, 'Ranks')
    assert ranks['Contestant'] == ['A', 'B', 'C']
    assert ranks['dcn_tiny'] == ['**1 (1 to 1), 44.0**', '2 (2 to 2), 43.0', '3, 50.0']
    assert ranks['swin_tiny'] == ['4 (4 to 4), 41.0', '4 (4 to 4), 41.0', '–']
    agreed = rows_of(text, 'Agreement of the columns')
    # Tau of four contestants with one pair of six reversed.
    assert agreed['A and B'][0] == '0.67'
    assert agreed['A and B'][3] == '1 of 6'
    assert agreed['A and C'] == ['−1.00', '–', '–', '3 of 3', '–']
    assert (
        'dcn_tiny is better than halo_tiny in A (44.0 and 43.0) and worse in B (43.0 and 44.0); p '
    ) in text
    chances = rows_of(text, 'Probability of being better in A')
    assert chances['dcn_tiny'] == ['–', '100.0', '100.0', '100.0']


def test_scores_that_are_not_told_apart_are_marked(tmp_path):
    results = [detector(tmp_path, name, 40) for name in NAMES]
    text = ranking_text(ranked(results, noise=1), 'markdown')
    assert '### Agreement' not in text
    cells = rows_of(text, 'Probability of being better in A')['dcn_tiny'][1:]
    assert all(cell.endswith('≈') for cell in cells)


def test_contestants_with_a_single_seed_are_mentioned(tmp_path):
    seeds = dict.fromkeys(NAMES, (0, 1, 2)) | {'halo_tiny': (0,)}
    results = [
        detector(tmp_path, name, 40 + place, seed=seed)
        for place, name in enumerate(NAMES)
        for seed in seeds[name]
    ]
    exception = 'except of contestants with a single seed'
    assert exception in ranking_text(ranked(results), 'markdown')
    several = [result for result in results if result.contestant.name != 'halo_tiny']
    assert exception not in ranking_text(ranked(several), 'markdown')


def test_without_reversal(tmp_path):
    results = [
        detector(tmp_path, name, 40 + place, initialization=start)
        for start in ('scratch', 'released')
        for place, name in enumerate(NAMES)
    ]
    text = ranking_text(ranked(results), 'markdown')
    assert 'No pair of contestants is in opposite order in two columns by more than chance.' in text


def test_latex(ranking):
    text = ranking_text(ranking, 'latex')
    assert text.count(r'\begin{table*}') == text.count(r'\end{table*}') == 4
    assert r'dcn\_tiny is better than halo\_tiny' in text
    assert 'dcn_tiny' not in text


def test_csv_has_a_row_for_each_score(ranking):
    rows = [*csv.DictReader(io.StringIO(ranking_text(ranking, 'csv')))]
    assert len(rows) == 4 + 4 + 3
    for row in rows:
        column = ranking.columns['ABC'.index(row['column'])]
        index = ranking.contestants.index(row['contestant'])
        assert float(row['score']) == column.scores[index]
        assert int(row['rank']) == column.ranks[index]
        assert (row['rank_low'] == '') == column.is_published
        assert row[f'better_than_{row["contestant"]}'] == ''


def test_json_is_complete_and_valid(ranking):
    found = json.loads(ranking_text(ranking, 'json'))
    assert found['contestants'] == list(ranking.contestants)
    first, *others = found['pairs']
    agreement = ranking.pairs[0].agreement
    assert first['tau_b'] == agreement.tau
    assert first['of_this_kind'] == [agreement.kind_low, agreement.kind_high]
    (reversal,) = first['reversals']
    assert (reversal['better'], reversal['worse']) == ('dcn_tiny', 'halo_tiny')
    assert all(each['these_contestants'] == [None, None] for each in others)
    assert found['columns'][0]['better'] == ranking.columns[0].better.tolist()
    assert None in found['columns'][2]['scores']


def test_letters_are_distinct():
    names = [letter(index) for index in range(80)]
    assert names[:2] + names[25:28] == ['A', 'B', 'Z', 'A1', 'B1']
    assert len(set(names)) == 80


@pytest.mark.parametrize(
    ('ends', 'expected'),
    [
        ((0.5, 1, 0.1, 1), 'related; the same order is possible'),
        ((0.5, 0.9, 0.1, 1), 'related; not the same order'),
        ((-0.5, 0.9, -0.1, 1), 'not the same order; may be unrelated'),
        ((-1, -0.5, -1, -0.1), 'opposed'),
        ((-0.5, 1, -0.6, 1), 'open: the same order and unrelated orders are possible'),
        ((math.nan,) * 4, '–'),
    ],
)
def test_words(ends, expected):
    assert verdict(Agreement(0.5, *ends)) == expected


@pytest.mark.parametrize('count', [3, 4, 5, 6])
def test_chance_of_unrelated_orders(count):
    orders = np.array([*permutations(range(count))])
    found = np.abs(tau_b(np.arange(count), orders))
    for value in np.unique(found):
        assert chance_of_tau(count, value) == pytest.approx((found >= value - 1e-9).mean())


def test_few_contestants_are_said_to_be_few():
    assert few_contestants_text(3) == (
        'Two unrelated orders of 3 contestants have a tau of 1.00 or more, or −1.00 or less, in 33 % of '
        'cases. Few contestants give wide intervals.'
    )
    # Critical value of Kendall's test at 5 % (Kendall and Gibbons, 1990, table 1).
    assert '0.33 or more' in few_contestants_text(20)
    assert 'Few' not in few_contestants_text(20)


class TestBumpChart:
    def test_places_are_distinct_and_follow_the_ranks(self, ranking):
        column = replace(ranking.columns[0], ranks=np.array([2, 1, 2, 0]))
        found = places(column)
        assert found[:3].tolist() == [2, 1, 3]
        assert np.isnan(found[3])

    def test_only_reversals_to_the_next_column_are_strong(self, ranking):
        dcn, halo, pvt = map(ranking.contestants.index, NAMES[:3])
        assert turning(ranking) == {(dcn, 0), (halo, 0), (dcn, 1), (halo, 1), (pvt, 1)}

    def test_every_contestant_is_drawn(self, ranking):
        picture = Image.open(io.BytesIO(draw_bump_chart(ranking))).convert('RGB')
        colors = {color for _, color in picture.getcolors(picture.width * picture.height)}
        assert {getrgb(color) for color in PALETTE[: len(NAMES)]} <= colors

    def test_more_contestants_than_styles(self, tmp_path):
        results = [detector(tmp_path, f'net{number}_tiny', 40 + number) for number in range(30)]
        found = ranked(results)
        height = Image.open(io.BytesIO(draw_bump_chart(found))).height
        assert height > 30 * 60
