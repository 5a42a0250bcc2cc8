"""Columns of analyses, next to the accuracy of the same weights."""

import csv
import io
import json

import pytest

from evaluation.analysis.results import load_analyses
from evaluation.results.reading import load_results
from evaluation.tables.table import render
from evaluation.utils.errors import UserError
from tests.evaluation.tables.test_table import document

NOTE = 'Consistency: of ten images.'


def result(folder, backbone, weights):
    file = folder / backbone / 'result.json'
    file.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = {'file': 'last.pth', 'sha256': 'a1', 'weights_sha256': weights}
    file.write_text(json.dumps(document(backbone, checkpoint=checkpoint)))


def analysis(folder, name, weights, created='2026-01-01T00:00:00+00:00', note=NOTE, **figures):
    file = folder / 'analysis' / f'{name}.json'
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        'analysis': name,
        'checkpoint': {'weights_sha256': weights},
        'created': created,
        'columns': {
            'figures': {heading.replace('_', ' '): value for heading, value in figures.items()},
            'note': note,
        },
    }
    file.write_text(json.dumps(content))


def shown(folder):
    """Return the cells by backbone and heading, and the text."""
    text = render(load_results([folder]), [], 'markdown', load_analyses([folder]))
    header, _, *rows = (
        [cell.strip() for cell in line.split('|')[1:-1]]
        for line in text.splitlines()
        if line.startswith('|')
    )
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows}, text


def test_figures_are_in_the_row_with_the_same_weights(tmp_path):
    result(tmp_path, 'dcn_tiny', 'one')
    result(tmp_path, 'swin_tiny', 'two')
    analysis(tmp_path / 'dcn_tiny', 'invariance', 'one', consistency=81.26)
    analysis(tmp_path / 'dcn_tiny', 'robustness', 'one', mPC=None)
    analysis(tmp_path / 'swin_tiny', 'robustness', 'two', note='mPC: of two.', mPC=12)
    analysis(tmp_path / 'swin_tiny', 'invariance', 'another', note='Of others.', consistency=99)
    rows, text = shown(tmp_path)
    assert (rows['dcn_tiny']['consistency'], rows['dcn_tiny']['mPC']) == ('81.3', '–')
    assert (rows['swin_tiny']['consistency'], rows['swin_tiny']['mPC']) == ('–', '12.0')
    assert text.count(NOTE) == text.count('mPC: of two.') == 1
    assert 'Of others.' not in text


def test_the_newest_analysis_counts(tmp_path):
    result(tmp_path, 'dcn_tiny', 'one')
    analysis(tmp_path / 'b', 'invariance', 'one', '2026-01-02T00:00:00+00:00', consistency=70)
    analysis(tmp_path / 'a', 'invariance', 'one', '2026-01-03T00:00:00+00:00', consistency=60)
    old = '2026-01-01T00:00:00+00:00'
    analysis(tmp_path / 'c', 'invariance', 'one', old, 'Of old.', consistency=50, more=1)
    rows, text = shown(tmp_path)
    assert rows['dcn_tiny']['consistency'] == '60.0'
    assert 'more' not in rows['dcn_tiny']
    assert 'Of old.' not in text


def test_every_digit_in_csv(tmp_path):
    result(tmp_path, 'dcn_tiny', 'one')
    analysis(tmp_path, 'invariance', 'one', consistency=81.26, other=None)
    text = render(load_results([tmp_path]), [], 'csv', load_analyses([tmp_path]))
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row['consistency'], row['other']) == ('81.26', '')


def test_headings_are_escaped_in_latex(tmp_path):
    result(tmp_path, 'dcn_tiny', 'one')
    analysis(tmp_path, 'erf', 'one', **{'area_50%': 3})
    text = render(load_results([tmp_path]), [], 'latex', load_analyses([tmp_path]))
    assert r'area 50\%' in text


@pytest.mark.parametrize(
    'content', ['', '{}', '[]', '{"analysis": "erf", "checkpoint": {"weights_sha256": "a"}}']
)
def test_malformed_analyses_are_refused(tmp_path, content):
    file = tmp_path / 'analysis' / 'erf.json'
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(UserError, match=r'erf\.json is not a complete result of an analysis'):
        load_analyses([tmp_path])


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('created', 7),
        ('created', 'yesterday'),
        ('analysis', ['invariance']),
        ('analysis', '\x1b[31m'),
        ('checkpoint', {'weights_sha256': None}),
        ('columns', {'figures': {'\ud800': 1.0}, 'note': 'x'}),
        ('columns', {'figures': {'\x1b[31m': 1.0}, 'note': 'x'}),
        ('columns', {'figures': {'a': float('nan')}, 'note': 'x'}),
        ('columns', {'figures': {'a': float('inf')}, 'note': 'x'}),
        ('columns', {'figures': {'a': 10**400}, 'note': 'x'}),
        ('columns', {'figures': {'a': 1.0}, 'note': ['x']}),
        ('columns', {'figures': {'a': 1.0}, 'note': '\x07'}),
    ],
    ids=str,
)
def test_values_that_a_table_cannot_show_are_refused(tmp_path, key, value):
    analysis(tmp_path, 'erf', 'one', consistency=70)
    analysis(tmp_path, 'invariance', 'one', consistency=70)
    file = tmp_path / 'analysis' / 'invariance.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(UserError, match=r'invariance\.json is not a complete result of an analysis'):
        load_analyses([tmp_path])


def test_newest_respects_time_zones(tmp_path):
    """The first timestamp is later as text, but not in time."""
    result(tmp_path, 'dcn_tiny', 'one')
    analysis(tmp_path / 'a', 'invariance', 'one', '2026-01-02T02:00:00+09:00', consistency=60)
    analysis(tmp_path / 'b', 'invariance', 'one', '2026-01-01T20:00:00+00:00', consistency=70)
    assert shown(tmp_path)[0]['dcn_tiny']['consistency'] == '70.0'


def test_unknown_weights_have_no_analysis(tmp_path):
    result(tmp_path, 'dcn_tiny', None)
    analysis(tmp_path, 'invariance', 'one', consistency=60)
    assert 'consistency' not in shown(tmp_path)[0]['dcn_tiny']


def test_no_analysis_found(tmp_path):
    with pytest.raises(UserError, match=r'no analysis under .*analyze_erf\.py'):
        load_analyses([tmp_path])
