"""Published results as rows among measured ones."""

import csv
import io
import re
from dataclasses import replace

import pytest

from evaluation.results.published import load_published
from evaluation.results.reading import read_result
from evaluation.statistics.comparison import uncertainties
from evaluation.tables.table import build_tables, render
from tests.evaluation.metrics.problems import guesses, write_result
from tests.evaluation.tables.test_table import (
    box_and_mask,
    document,
    entry,
    load_command,
    published_of,
    results_of,
    table_columns,
)


def field(folder, *entries):
    """Return published figures of other networks."""
    return published_of(folder, *(each | {'architecture': 'original'} for each in entries))


def names_and_groups(results, entries):
    (table,) = build_tables(results, [], field=entries)
    column = [c.heading for c in table.columns].index('Backbone')
    return [[row[column].text + row[column].mark for row in group] for group in table.groups]


def cost(millions):
    return {'params_million': millions}


def test_rows_stand_at_their_scale_or_size(tmp_path):
    entries = field(
        tmp_path,
        entry('net_huge') | cost(900) | {'scale': 'huge'},
        entry('net_tiny') | cost(60) | {'scale': 'tiny'},
        entry('net_small') | cost(70) | {'scale': 'small'},
        entry('near_tiny') | cost(50),
        entry('alone') | cost(400),
        entry('unknown'),
    )
    results = results_of(tmp_path / 'runs', document('dcn_tiny'), document('dcn_micro'))
    assert names_and_groups(results, entries) == [
        ['dcn_micro'],
        ['dcn_tiny', 'near_tiny◦', 'net_tiny◦'],
        ['net_small◦'],
        ['alone◦'],
        ['net_huge◦'],
        ['unknown◦'],
    ]


def test_rows_are_marked_and_never_bold(tmp_path):
    entries = field(tmp_path, entry('best_tiny', box_ap=99.0, mask_ap=98.0) | {'scale': 'tiny'})
    results = results_of(
        tmp_path / 'runs',
        document('dcn_tiny', metrics=box_and_mask(47, 42)),
        document('swin_tiny', metrics=box_and_mask(44, 40)),
    )
    (table,) = build_tables(results, [], field=entries)
    columns = table_columns(table)
    assert columns['box AP'] == ['*47.0', '44.0', '99.0']
    assert columns['box AP50'] == ['*67.0', '64.0', '–']
    assert columns['Training'][-1] == 'published'
    assert columns['Params (M)'][-1] == columns['FLOPs (G)'][-1] == '–'
    (note,) = [note for note in table.notes if note.startswith('◦')]
    assert note.endswith(' a paper: best_tiny.')


def test_only_the_recipe_and_data_of_the_rows(tmp_path):
    entries = field(
        tmp_path,
        entry('a_tiny'),
        entry('b_tiny', 'mask_rcnn_coco_3x'),
        entry('c_tiny') | {'multi_scale': True},
        entry('d_tiny', 'upernet_ade20k_160k', miou=50.0),
    )
    detector, segmentor = document(), document('swin_tiny', 'upernet')
    mine = document('halo_tiny', dataset='my data')
    tables = build_tables(results_of(tmp_path / 'runs', detector, segmentor, mine), [], field=entries)
    shown = [table_columns(table)['Backbone'] for table in tables]
    assert shown == [['dcn_tiny', 'a_tiny◦'], ['halo_tiny'], ['swin_tiny', 'd_tiny◦']]


def test_augmented_figures_are_rows_of_augmented_tables(tmp_path):
    entries = field(
        tmp_path,
        entry('a_tiny', 'upernet_ade20k_160k', miou=50.0, miou_multi_scale=51.0),
        entry('b_tiny', 'upernet_ade20k_160k', miou=49.0),
    )
    runs = [document('swin_tiny', 'upernet', test_time_augmentation=tta) for tta in (False, True)]
    (table,) = build_tables(results_of(tmp_path / 'runs', *runs), [], field=entries)
    columns = table_columns(table)
    found = list(zip(columns['Backbone'], columns['TTA'], columns['mIoU'], strict=True))[2:]
    assert sorted(found) == [
        ('a_tiny◦', 'no', '50.00'),
        ('a_tiny◦', 'yes', '51.00'),
        ('b_tiny◦', 'no', '49.00'),
    ]


def test_a_figure_beside_its_own_result_is_not_repeated(tmp_path):
    published = load_published()
    results = results_of(tmp_path, document('r50'), document('swin_tiny'))
    (table,) = build_tables(results, published, field=published)
    columns = table_columns(table)
    beside = dict(zip(columns['Backbone'], columns['published box AP'], strict=True))
    assert (beside['r50'], beside['swin_tiny']) == ('38.2', '44.3')
    assert beside['original_swin_tiny◦'] == beside['vmamba_tiny◦'] == '–'
    assert not {'swin_tiny◦', 'original_resnet50◦'} & beside.keys()


def test_rows_have_no_intervals(tmp_path):
    evidence = guesses([True, False] * 150)
    file = write_result(tmp_path / 'runs', evidence, 'swin_tiny', initialization='scratch')
    result = read_result(file)
    # A recipe on the images of this test.
    results = [
        replace(result, recipe=replace(result.recipe, images=300, epochs=None, iterations=160_000))
    ]
    results = [replace(results[0], batch_size=1024, dataset=result.recipe.dataset)]
    entries = field(tmp_path, entry('net_tiny', 'imagenet', top1=83.0))
    (table,) = build_tables(results, [], (), uncertainties(results, 200), entries)
    ours, theirs = table_columns(table)['top-1']
    assert re.fullmatch(r'50\.0 \(\d+\.\d to \d+\.\d\)', ours)
    assert theirs == '83.0'


@pytest.mark.parametrize('format', ['markdown', 'latex'])
def test_text_formats_show_the_row_and_its_source(tmp_path, format):
    entries = field(tmp_path, entry('net_tiny') | cost(49.5) | {'gflops': 267.25})
    text = render(results_of(tmp_path / 'runs', document()), [], format, field=entries)
    name, mark = ('net_tiny', '◦') if format == 'markdown' else (r'net\_tiny', r'$^\circ$')
    (row,) = [line for line in text.splitlines() if line.strip(' |').startswith(name + mark)]
    assert '49.5' in row
    assert '267.25' in row
    assert f'a paper: {name}' in text
    assert mark not in render(results_of(tmp_path / 'again', document()), entries, format)


def test_csv_tells_published_rows_apart(tmp_path):
    entries = field(tmp_path, entry('net_tiny') | {'scale': 'tiny', 'family': 'net'})
    results = results_of(tmp_path / 'runs', document())
    ours, theirs = csv.DictReader(io.StringIO(render(results, [], 'csv', field=entries)))
    assert (ours['kind'], ours['source'], theirs['kind'], theirs['source']) == (
        'measured',
        '',
        'published',
        'a paper',
    )
    assert (theirs['backbone'], theirs['family'], theirs['box_AP']) == ('net_tiny', 'net', '47.2')
    assert 'kind' not in render(results, entries, 'csv').splitlines()[0].split(',')


@pytest.mark.parametrize(
    ('published', 'status', 'complaint'),
    [
        ('none', 2, 'error: --published-rows needs published figures; give a file with --published\n'),
        ('figures.json', 0, 'no published result has the recipe and data of these results\n'),
    ],
)
def test_nothing_to_show(tmp_path, monkeypatch, capsys, published, status, complaint):
    results_of(tmp_path / 'runs', document())
    field(tmp_path, entry('a_tiny', 'mask_rcnn_coco_3x'))
    (tmp_path / 'published.json').rename(tmp_path / 'figures.json')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', ['table.py', 'runs', '--published-rows', '--published', published])
    try:
        load_command().main()
        found = 0
    except SystemExit as error:
        found = error.code
    assert (found, capsys.readouterr().err) == (status, complaint)
