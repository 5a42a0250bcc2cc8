import copy
import csv
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.results.published import (
    PACKAGED,
    Figure,
    find_figure,
    load_published,
    why_not_compared,
)
from evaluation.results.reading import load_results, read_result
from evaluation.results.selection import by_experiment, select
from evaluation.statistics.comparison import cautions
from evaluation.tables.columns import title_of
from evaluation.tables.table import build_tables, render
from evaluation.utils.errors import UserError
from evaluation.utils.text_tables import DASH, escape_latex, escape_markdown

ROOT = Path(__file__).resolve().parents[3]
COMMAND = ROOT / 'tools' / 'table.py'
# Parameters of Mask R-CNN by scale; None is the R50 baseline.
PARAMETERS = {
    None: 44_396_061,
    'micro': 24_123_456,
    'tiny': 48_123_456,
    'small': 69_123_456,
    'base': 107_123_456,
    'giant': 244_123_456,
}


def document(backbone='dcn_tiny', task='mask_rcnn', **changes):
    """Return a complete result file of version 1; `changes` replace top-level keys."""
    mixer, scale = (None, None) if backbone == 'r50' else backbone.rsplit('_', 1)
    detection = task == 'mask_rcnn'
    whole = {
        'schema_version': 1,
        'task': task,
        'mixer': mixer,
        'scale': scale,
        'backbone': backbone,
        'dataset': 'COCO val2017' if detection else 'ADE20K val',
        'metrics': box_and_mask(40, 35) if detection else {'mIoU': 40, 'mAcc': 50, 'aAcc': 80},
        'per_class': {'box_AP': {'person': 51.0}} if detection else {'IoU': {'wall': 70.0}},
        'config': {'name': f'{task}_{backbone}', 'text': 'model = dict()'},
        'checkpoint': {'file': 'last.pth', 'sha256': 'a1', 'weights_sha256': 'b2'},
        'epoch': 12 if detection else None,
        'iteration': 87960 if detection else 160000,
        'max_epochs': 12 if detection else None,
        'max_iterations': None if detection else 160000,
        'parameters': {'total': PARAMETERS[scale], 'backbone': 30_000_000},
        'complexity': flops(266.553) if detection else flops(944.385, 512, 2048),
        'seed': 0,
        'images': 5000 if detection else 2000,
        'recipe': None,
        'initialization': None,
        'test_time_augmentation': False,
        'versions': {'torch': '2.11.0'},
        'git': {'commit': 'c3'},
        'hardware': {},
        'wall_time_seconds': 12.5,
        'created': '2026-01-01T00:00:00+00:00',
    }
    assert changes.keys() <= whole.keys()
    return whole | changes


def flops(billions, height=800, width=1280, missing=()):
    """Return the `complexity` entry of a result file."""
    return {
        'flops': round(billions * 1e9),
        'parameters': 48_123_456,
        'height': height,
        'width': width,
        'parts': [],
        'uncounted_operators': list(missing),
    }


def box_and_mask(box, mask):
    return {
        'box_AP': box,
        'box_AP50': box + 20,
        'box_AP75': box + 4,
        'mask_AP': mask,
        'mask_AP50': mask + 20,
        'mask_AP75': mask + 3,
    }


def write(folder, *documents):
    for number, content in enumerate(documents):
        file = folder / f'run{number}' / 'evaluation' / 'result.json'
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(content))
    return folder


def results_of(folder, *documents):
    return load_results([write(folder, *documents)])


def entry(model='dcn_tiny', task='mask_rcnn_coco_1x', architecture='unified', **figures):
    whole = {'model': model, 'task': task, 'architecture': architecture, 'source': 'a paper'}
    return whole | (figures or {'box_ap': 47.2, 'mask_ap': 42.5})


def published_of(folder, *entries):
    file = folder / 'published.json'
    file.write_text(json.dumps(entries))
    return load_published(file)


def table_columns(table):
    """Return the printed cells by heading; bold cells start with `*`."""
    rows = [row for group in table.groups for row in group]
    return {
        column.heading: [
            ('*' if cell.bold else '') + cell.text + cell.mark for cell in (row[index] for row in rows)
        ]
        for index, column in enumerate(table.columns)
    }


def columns_of(folder, *documents, published=()):
    (table,) = build_tables(results_of(folder, *documents), published)
    return table_columns(table)


def load_command():
    specification = importlib.util.spec_from_file_location('table_command', COMMAND)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command in this process: exit status, standard output, standard error."""
    module = load_command()

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', ['table.py', *map(str, arguments)])
        status = 0
        try:
            module.main()
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return call


# Whole tables


def test_markdown_of_a_small_case(tmp_path):
    results = results_of(
        tmp_path,
        document('swin_tiny', metrics=box_and_mask(44.04, 40.5)),
        document('dcn_tiny', metrics=box_and_mask(47.44, 42.449)),
        document('r50', metrics=box_and_mask(38.2, 34.7)),
        document('dcn_micro', metrics=box_and_mask(30, 28), epoch=8, iteration=58640),
    )
    # fmt: off
    expected = (
        '### Mask R-CNN on COCO val2017\n'
        '\n'
        '| Backbone  | Params (M) | FLOPs (G) |   box AP | box AP50 | box AP75 |  mask AP | mask AP50 | mask AP75 | published box AP | Δ box AP | published mask AP | Δ mask AP | Training    |\n'  # noqa: E501
        '| --------- | ---------: | --------: | -------: | -------: | -------: | -------: | --------: | --------: | ---------------: | -------: | ----------------: | --------: | ----------- |\n'  # noqa: E501
        '| dcn_micro |       24.1 |     266.6 |     30.0 |     50.0 |     34.0 |     28.0 |      48.0 |      31.0 |             39.5 |     −9.5 |              36.6 |      −8.6 | epoch 8/12‡ |\n'  # noqa: E501
        '| r50       |       44.4 |     266.6 |     38.2 |     58.2 |     42.2 |     34.7 |      54.7 |      37.7 |             38.2 |      0.0 |              34.7 |       0.0 | epoch 12/12 |\n'  # noqa: E501
        '| dcn_tiny  |       48.1 |     266.6 | **47.4** | **67.4** | **51.4** | **42.4** |  **62.4** |  **45.4** |             47.2 |     +0.2 |              42.5 |      −0.1 | epoch 12/12 |\n'  # noqa: E501
        '| swin_tiny |       48.1 |     266.6 |     44.0 |     64.0 |     48.0 |     40.5 |      60.5 |      43.5 |             44.3 |     −0.3 |              40.5 |       0.0 | epoch 12/12 |\n'  # noqa: E501
        '\n'
        'FLOPs: multiply-adds, each counted once, on an image of 800x1280 (height x width).\n'
        '\n'
        'Bold: best of each size, among finished runs with the same start, length, images and use of test-time augmentation.\n'  # noqa: E501
        '\n'
        'Some results have no digest of their annotations (data.sha256); their annotations are assumed to be the same.\n'  # noqa: E501
        '\n'
        'Published figures, for 12 epochs (Δ = ours − published): STM-Evaluation detection/readme.md: dcn_micro, dcn_tiny, swin_tiny; mmdetection configs/mask_rcnn README (SGD; cost second hand): r50.\n'  # noqa: E501
        '\n'
        'If a result does not record the start or the batch size of its training, the published one is assumed.\n'  # noqa: E501
        '\n'
        '‡ Training not finished, or not known to be finished.\n'
    )
    # fmt: on
    assert render(results, load_published(), 'markdown') == expected


def test_markdown_without_published_figures(tmp_path):
    results = results_of(tmp_path, document('dcn_tiny', 'upernet'))
    assert render(results, [], 'markdown') == (
        '### UperNet on ADE20K val\n'
        '\n'
        '| Backbone | Params (M) | FLOPs (G) |  mIoU |  mAcc |  aAcc | Training           |\n'
        '| -------- | ---------: | --------: | ----: | ----: | ----: | ------------------ |\n'
        '| dcn_tiny |       48.1 |     944.4 | 40.00 | 50.00 | 80.00 | iter 160000/160000 |\n'
        '\n'
        'FLOPs: multiply-adds, each counted once, on an image of 512x2048 (height x width).\n'
    )


def test_original_architecture_is_marked_and_every_source_named(tmp_path):
    results = results_of(
        tmp_path,
        document('swin_tiny', 'upernet', metrics={'mIoU': 44, 'mAcc': 55, 'aAcc': 80}),
        document('convnext_tiny', 'upernet', metrics={'mIoU': 46.5, 'mAcc': 55, 'aAcc': 80}),
        document('dcn_tiny', 'upernet'),
    )
    (table,) = build_tables(results, load_published())
    columns = table_columns(table)
    assert columns['published mIoU'] == ['46.00†', '–', '44.51†']
    assert columns['Δ mIoU'] == ['+0.50', '–', '−0.51']
    notes = '\n'.join(table.notes)
    assert 'ConvNeXt semantic_segmentation README (input size not stated there): convnext_tiny;' in notes
    assert 'Swin-Transformer-Semantic-Segmentation README: swin_tiny' in notes
    assert 'for 160000 iterations' in notes
    assert any(note.startswith('† ') and 'a different architecture' in note for note in table.notes)
    assert '‡' not in notes


def test_a_table_for_each_task_and_data_set(tmp_path):
    documents = [
        document('dcn_tiny', 'upernet'),
        document('dcn_tiny', dataset='A set'),
        document('dcn_tiny', dataset='COCO val2017'),
        document('swin_tiny', dataset='A set'),
    ]
    tables = build_tables(results_of(tmp_path, *documents), load_published())
    assert [table.title for table in tables] == [
        'Mask R-CNN on COCO val2017',
        'Mask R-CNN on A set',
        'UperNet on ADE20K val',
    ]
    assert ['published box AP' in table_columns(table) for table in tables] == [True, False, False]
    assert table_columns(tables[1])['Backbone'] == ['dcn_tiny', 'swin_tiny']


# FLOPs


def test_files_without_flops_show_a_dash(tmp_path):
    old = document('dcn_tiny')
    del old['complexity']
    results = results_of(tmp_path, old, document('swin_tiny'), document('r50', complexity=None))
    (table,) = build_tables(results, [])
    assert table_columns(table)['FLOPs (G)'] == ['–', '–', '266.6']
    latex = latex_rows(render(results, [], 'latex'))
    assert [row[2].strip() for row in latex] == ['FLOPs (G)', '--', '--', '266.6']
    rows = list(csv.DictReader(io.StringIO(render(results, [], 'csv'))))
    assert [row['flops'] for row in rows] == ['', '', '266553000000']
    assert [row['flops_width'] for row in rows] == ['', '', '1280']


def test_no_note_on_flops_if_no_file_has_them(tmp_path):
    (table,) = build_tables(results_of(tmp_path, document(complexity=None)), [])
    assert table_columns(table)['FLOPs (G)'] == ['–']
    assert not any('FLOPs' in note for note in table.notes)


def test_operators_missing_from_flops_are_named(tmp_path):
    missing = flops(266.6, missing=['aten::fft', 'mine::mix'])
    results = results_of(tmp_path, document('dcn_tiny', complexity=missing), document('swin_tiny'))
    (table,) = build_tables(results, [])
    assert table_columns(table)['FLOPs (G)'] == ['266.6§', '266.6']
    assert '§ Excludes operators without a FLOP formula: aten::fft, mine::mix.' in table.notes
    latex = render(results, [], 'latex')
    assert r'266.6$^\S$' in latex
    assert latex.isascii()
    rows = list(csv.DictReader(io.StringIO(render(results, [], 'csv'))))
    assert [row['flops_without'] for row in rows] == ['aten::fft mine::mix', '']


def test_note_lists_all_image_sizes_of_flops(tmp_path):
    small = document('dcn_tiny', complexity=flops(70, 400, 640))
    (table,) = build_tables(results_of(tmp_path, document('swin_tiny'), small), [])
    assert any('400x640 and 800x1280 (height x width)' in note for note in table.notes)


# Order


def test_order_of_rows(tmp_path):
    expected = ['zoo_micro', 'r50', 'apple_tiny', 'convnext_tiny', 'dcn_tiny', 'halo_tiny', 'pvt_tiny']
    expected += ['swin_tiny', 'zoo_tiny', 'dcn_small', 'halo_base', 'dcn_giant']
    shuffled = sorted(expected, key=lambda name: name[::-1])
    assert shuffled != expected
    columns = columns_of(tmp_path, *map(document, shuffled))
    assert columns['Backbone'] == expected


@st.composite
def documents(draw):
    task = draw(st.sampled_from(['mask_rcnn', 'upernet']))
    metric = st.none() | st.floats(0, 100)
    changes = {
        'dataset': draw(st.sampled_from(['COCO val2017', 'ADE20K val', 'data/a'])),
        'iteration': draw(st.none() | st.sampled_from([1000, 160000])),
        'created': draw(st.sampled_from(['2026-01-01T00:00:00+00:00', '2026-01-02T00:00:00'])),
        'test_time_augmentation': draw(st.booleans()),
        'seed': draw(st.sampled_from([None, 0, 1])),
    }
    backbone = draw(st.sampled_from(['r50', 'dcn_tiny', 'swin_tiny', 'swin_base', 'mine_tiny']))
    result = document(backbone, task, **changes)
    result['metrics'] = {name: draw(metric) for name in result['metrics']}
    return result


@given(st.lists(documents(), min_size=1, max_size=8), st.booleans(), st.randoms())
def test_tables_do_not_depend_on_the_order_of_results(tmp_path_factory, contents, every, random):
    results = results_of(tmp_path_factory.mktemp('results'), *contents)
    shuffled = random.sample(results, len(results))
    published = load_published()
    for format in ('markdown', 'latex'):
        in_order = render(select(results, every), published, format)
        assert render(select(shuffled, every), published, format) == in_order
        if every:
            assert render(shuffled, published, format) == in_order


# Recipes


def test_recipe_variants_do_not_compete(tmp_path):
    columns = columns_of(
        tmp_path,
        document('swin_tiny', recipe='fair', metrics=box_and_mask(40, 30)),
        document('dcn_tiny', recipe='fair', metrics=box_and_mask(41, 31)),
        document('swin_tiny', recipe='released', metrics=box_and_mask(44, 34)),
        document('dcn_tiny', recipe='released', metrics=box_and_mask(43, 33)),
        document('halo_tiny', metrics=box_and_mask(50, 40)),
    )
    assert columns['Recipe'] == ['fair', 'released', '–', 'fair', 'released']
    assert columns['box AP'] == ['*41.0', '43.0', '50.0', '40.0', '*44.0']


@pytest.mark.parametrize('recipe', [None, 'fair', 'released'])
def test_a_recipe_shared_by_all_rows_is_a_note(tmp_path, recipe):
    found = results_of(
        tmp_path, document('swin_tiny', recipe=recipe), document('dcn_tiny', recipe=recipe)
    )
    (table,) = build_tables(found, ())
    assert 'Recipe' not in table_columns(table)
    notes = [note for note in table.notes if note.startswith('Recipe: ')]
    assert [note.split(':')[1].split(' (')[0] for note in notes] == [f' {recipe}'] * bool(recipe)


def test_published_figure_of_the_released_recipe_is_marked_for_a_fair_run(tmp_path):
    published = published_of(tmp_path, entry('dcn_tiny'), entry('swin_tiny', architecture='original'))
    columns = columns_of(
        tmp_path / 'results',
        document('dcn_tiny', recipe='fair'),
        document('dcn_tiny', recipe='released'),
        document('swin_tiny', recipe='fair'),
        published=published,
    )
    assert columns['published box AP'] == ['47.2¶', '47.2', '47.2†']
    (table,) = build_tables(results_of(tmp_path / 'results'), published)
    assert any(note.startswith('¶ Published for the released recipe') for note in table.notes)


def test_recipe_variants_are_different_experiments(tmp_path):
    found = results_of(
        tmp_path,
        *(document(recipe=recipe, seed=seed) for recipe in ('fair', 'released') for seed in (0, 1)),
    )
    assert len(by_experiment(found)) == 2
    assert len(select(found, every=False)) == 4
    assert 'Their recipes differ (fair and released)' in cautions(found)[0]
    assert not any('recipes' in caution for caution in cautions(found[:1]))


def test_trainings_that_differ_are_mentioned(tmp_path):
    (found,) = results_of(tmp_path, document())
    probe = replace(found, recipe=replace(found.recipe, protocol='linear', fraction=0.05))
    short = replace(found, epoch=3, max_epochs=3)
    assert not any('trainings' in caution for caution in cautions([found, found]))
    (caution,) = (each for each in cautions([found, probe]) if 'trainings' in each)
    assert caution == (
        'Their trainings differ (linear probe, 5 % of the training images, 12 of 12 epochs; whole '
        'network, all training images, 12 of 12 epochs), so the difference is not due to the models '
        'alone.'
    )
    assert any('3 of 3 epochs' in each for each in cautions([found, short]))
    assert title_of([probe]) == 'Mask R-CNN on COCO val2017, linear probe, 5 % of the training images'


# Bold


def test_bold_is_per_scale_and_needs_a_rival(tmp_path):
    columns = columns_of(
        tmp_path,
        document('swin_micro', metrics=box_and_mask(30, 20)),
        document('dcn_micro', metrics=box_and_mask(31, 19)),
        document('swin_tiny', metrics=box_and_mask(41, 30)),
        document('dcn_tiny', metrics=box_and_mask(42, 31)),
        document('dcn_base', metrics=box_and_mask(50, 40)),
    )
    assert columns['box AP'] == ['*31.0', '30.0', '*42.0', '41.0', '50.0']
    assert columns['mask AP'] == ['19.0', '*20.0', '*31.0', '30.0', '40.0']


def test_ties_by_the_printed_value_are_all_bold(tmp_path):
    columns = columns_of(
        tmp_path,
        document('halo_tiny', metrics=box_and_mask(46.96, 40)),
        document('swin_tiny', metrics=box_and_mask(47.04, 40.2)),
        document('dcn_tiny', metrics=box_and_mask(46.94, 40.1)),
    )
    assert columns['box AP'] == ['46.9', '*47.0', '*47.0']
    assert columns['mask AP'] == ['40.1', '40.0', '*40.2']


def test_bold_compares_only_finished_runs_of_the_same_length_and_test(tmp_path):
    longer = {'epoch': 36, 'max_epochs': 36}
    columns = columns_of(
        tmp_path,
        document('a_tiny', metrics=box_and_mask(10, 10)),
        document('b_tiny', metrics=box_and_mask(11, 10)),
        document('c_tiny', metrics=box_and_mask(20, 10), **longer),
        document('d_tiny', metrics=box_and_mask(21, 10), **longer),
        document('e_tiny', metrics=box_and_mask(30, 10), epoch=8),
        document('f_tiny', metrics=box_and_mask(31, 10), max_epochs=None),
        document('g_tiny', metrics=box_and_mask(40, 10), test_time_augmentation=True),
    )
    assert columns['box AP'] == ['10.0', '*11.0', '20.0', '*21.0', '30.0', '31.0', '40.0']
    assert columns['TTA'] == ['no'] * 6 + ['yes']


def test_null_is_a_dash_and_does_not_compete(tmp_path):
    undefined = dict.fromkeys(box_and_mask(0, 0))
    columns = columns_of(
        tmp_path,
        document('swin_tiny', metrics=box_and_mask(40, 30)),
        document('dcn_tiny', metrics=undefined),
        published=load_published(),
    )
    assert columns['box AP'] == ['–', '40.0']
    assert columns['published box AP'] == ['47.2', '44.3']
    assert columns['Δ box AP'] == ['–', '−4.3']


@pytest.mark.parametrize('literal', ['NaN', 'Infinity', '-Infinity', '1e999'])
def test_non_finite_numbers_become_null(tmp_path, literal):
    text = json.dumps(document(metrics=box_and_mask(40, 30) | {'box_AP': 77777}))
    file = tmp_path / 'result.json'
    file.write_text(text.replace('77777', literal))
    assert read_result(file).metrics['box_AP'] is None


def test_rounding_errors_above_100_percent_are_accepted(tmp_path):
    metrics = {'mIoU': 100.00000000000001, 'mAcc': 100, 'aAcc': 0}
    columns = columns_of(tmp_path, document(task='upernet', metrics=metrics))
    assert [columns[name] for name in metrics] == [['100.00'], ['100.00'], ['0.00']]


# Training


@pytest.mark.parametrize(
    ('state', 'printed'),
    [
        ((12, 87960, 12, None), 'epoch 12/12'),
        ((12, 87960, 12, 87960), 'epoch 12/12'),
        ((11, 80630, 12, None), 'epoch 11/12‡'),
        ((None, 16000, None, 160000), 'iter 16000/160000‡'),
        ((None, 160000, None, 160000), 'iter 160000/160000'),
        ((3, 160000, None, 160000), 'iter 160000/160000'),
        ((None, 87960, 12, 87960), 'iter 87960/87960'),
        ((None, None, 12, None), 'epoch –/12‡'),
        ((12, None, None, None), 'epoch 12‡'),
        ((None, 500, None, None), 'iter 500‡'),
        ((None, None, None, None), '–‡'),
    ],
)
def test_state_of_training(tmp_path, state, printed):
    names = ('epoch', 'iteration', 'max_epochs', 'max_iterations')
    (table,) = build_tables(results_of(tmp_path, document(**dict(zip(names, state, strict=True)))), [])
    assert table_columns(table)['Training'] == [printed]
    assert any(note.startswith('‡') for note in table.notes) == printed.endswith('‡')


def test_config_and_seed_are_shown_if_needed_to_tell_rows_apart(tmp_path):
    plain = document('dcn_tiny')
    other_config = document('dcn_tiny', config={'name': 'mask_rcnn_dcn_tiny_kept_norms', 'text': ''})
    other_seed = document('dcn_tiny', seed=1)
    earlier = document('dcn_tiny', epoch=8, iteration=58640)
    longer = other_config | {'epoch': 36, 'max_epochs': 36}

    def shown(name, *documents):
        columns = columns_of(tmp_path / name, *documents)
        return columns.get('Config'), columns.get('Seed')

    assert shown('one', plain) == (None, None)
    assert shown('epochs', plain, earlier) == (None, None)
    assert shown('lengths', plain, longer) == (None, None)
    assert shown('seeds', plain, other_seed) == (None, ['0', '1'])
    names = ['mask_rcnn_dcn_tiny', 'mask_rcnn_dcn_tiny_kept_norms']
    assert shown('configs', other_config, plain) == (names, None)


# Selection


def test_selection_keeps_the_furthest_in_training_then_the_newest(tmp_path):
    noon, later = '2026-01-01T12:00:00+00:00', '2026-01-01T12:30:00+00:00'
    # Later in local time, earlier in UTC.
    abroad = '2026-01-01T14:00:00+02:00'
    results = results_of(
        tmp_path,
        document(iteration=100, created=later, wall_time_seconds=1),
        document(iteration=200, created=noon, wall_time_seconds=2),
        document(iteration=200, created=later, wall_time_seconds=3),
        document(iteration=200, created=abroad, wall_time_seconds=4),
        document(iteration=None, created=later, wall_time_seconds=5),
    )
    assert [result.wall_time_seconds for result in select(results, every=False)] == [3]
    assert [result.wall_time_seconds for result in select(results, every=True)] == [5, 1, 2, 4, 3]


def test_selection_keeps_results_of_different_kinds(tmp_path):
    results = results_of(
        tmp_path,
        document(),
        document(test_time_augmentation=True),
        document(dataset='data/a'),
        document(config={'name': 'another', 'text': ''}),
        document(seed=1),
        document('dcn_small'),
        document(task='upernet'),
    )
    assert len(select(results, every=False)) == 7


def second_version(**changes):
    """Return a result with all fields that distinguish experiments of the same name."""
    config = {'name': 'mask_rcnn_dcn_tiny', 'text': '', 'sha256': 'c0c0c0c0c0'}
    return document(schema_version=1, config=config) | {
        'data': {'sha256': 'd0d0d0d0d0'},
        'training_data': {'sha256': 'e0e0e0e0e0'},
        'batch_size': 16,
        'mixed_precision': False,
        'learning_rate_scaled': False,
        **changes,
    }


@pytest.mark.parametrize(
    ('changes', 'heading', 'cells'),
    [
        ({'images': 5}, 'Images', ['5', '5000']),
        ({'batch_size': 2}, 'Batch', ['16', '2']),
        ({'mixed_precision': True}, 'AMP', ['no', 'yes']),
        ({'mixed_precision': None}, 'AMP', ['no', '–']),
        ({'learning_rate_scaled': True}, 'Scaled LR', ['no', 'yes']),
        ({'data': {'sha256': 'd1d1d1d1d1'}}, 'Data', ['d0d0d0d', 'd1d1d1d']),
        ({'training_data': {'sha256': None}}, 'Training data', ['e0e0e0e', '–']),
        (
            {'config': {'name': 'mask_rcnn_dcn_tiny', 'text': '', 'sha256': 'c1c1c1c1c1'}},
            'Settings',
            ['c0c0c0c', 'c1c1c1c'],
        ),
    ],
    ids=str,
)
def test_experiments_with_the_same_name_get_separate_rows_and_a_column(
    tmp_path, changes, heading, cells
):
    later = {'created': '2026-01-02T00:00:00+00:00'}
    results = results_of(tmp_path, second_version(), second_version(**changes, **later))
    shown = select(results, every=False)
    assert len(shown) == len(by_experiment(results)) == 2
    columns = table_columns(build_tables(shown, [])[0])
    assert sorted(columns[heading]) == cells
    details = {'Images', 'Batch', 'AMP', 'Scaled LR', 'Data', 'Training data', 'Settings', 'Seed'}
    assert details & columns.keys() == {heading}
    assert not details & table_columns(build_tables(results[:1], [])[0]).keys()


def test_rows_of_a_table_over_seeds_are_told_apart(tmp_path):
    documents = [
        second_version(seed=seed, **kind)
        for seed in range(2)
        for kind in (
            {},
            {'test_time_augmentation': True},
            {'images': 5},
            {'epoch': 8, 'iteration': 58640},
            {'mixed_precision': True},
        )
    ]
    text = render(results_of(tmp_path, *documents), [], 'markdown')
    _, table = text.split(', over seeds')
    rows = [line for line in table.splitlines() if line.startswith('| dcn_tiny')]
    assert len(set(rows)) == len(rows) == 5
    assert '| TTA |' in table
    assert 'epoch 8/12' in table


def test_bold_requires_the_same_annotations(tmp_path):
    pair = [
        document('dcn_tiny', metrics=box_and_mask(42, 42)),
        document('swin_tiny', metrics=box_and_mask(40, 40)),
    ]
    known = [content | {'data': {'sha256': 'd0'}} for content in pair]
    assert columns_of(tmp_path / 'same', *known)['box AP'] == ['*42.0', '40.0']
    other = [known[0], pair[1] | {'data': {'sha256': 'd1'}}]
    assert columns_of(tmp_path / 'other', *other)['box AP'] == ['42.0', '40.0']
    half = [known[0], pair[1]]
    assert columns_of(tmp_path / 'half', *half)['box AP'] == ['42.0', '40.0']
    remark = 'have no digest of their annotations'
    assert remark not in render(results_of(tmp_path / 'a', *known), [], 'markdown')
    assert remark in render(results_of(tmp_path / 'b', *pair), [], 'markdown')


def test_a_file_found_through_two_folders_counts_once(tmp_path):
    write(tmp_path, document(), document('swin_tiny'))
    results = load_results([tmp_path, tmp_path / 'run0', tmp_path / 'run1' / '..'])
    assert sorted(result.contestant.name for result in results) == ['dcn_tiny', 'swin_tiny']


# Published figures


def test_packaged_figures_name_architecture_and_source():
    entries = load_published()
    assert len(entries) == 251
    for item in entries:
        unified = item.source.startswith('STM-Evaluation')
        assert (item.architecture == 'unified') == unified
    raw = json.loads(PACKAGED.read_text())
    urls = [item['checkpoint'] for item in raw if 'checkpoint' in item]
    assert len(urls) == 40
    assert all(url.startswith('https://github.com/') for url in urls)


def test_lookup_prefers_the_unified_architecture(tmp_path):
    entries = published_of(
        tmp_path,
        entry(architecture='original', box_ap=1.0, mask_ap=2.0),
        entry(architecture='unified', box_ap=3.0, mask_ap=4.0),
        entry('swin_tiny', architecture='original', box_ap=5.0, mask_ap=6.0),
    )
    dcn, swin, mine = results_of(
        tmp_path, document('dcn_tiny'), document('swin_tiny'), document('mine_tiny')
    )
    assert find_figure(entries, dcn, 'mask_AP') == Figure(4.0, 'unified', 'a paper')
    assert find_figure(entries, swin, 'box_AP') == Figure(5.0, 'original', 'a paper')
    assert find_figure(entries, mine, 'box_AP') is None


@pytest.mark.parametrize(
    'changes',
    [
        {'dataset': 'data/coco'},
        {'max_epochs': 36, 'epoch': 36},
        {'max_epochs': None},
        {'test_time_augmentation': True},
    ],
)
def test_no_figure_for_a_different_data_set_length_or_test(tmp_path, changes):
    same, other = results_of(tmp_path, document(), document(**changes))
    assert find_figure(load_published(), same, 'box_AP').value == 47.2
    assert find_figure(load_published(), other, 'box_AP') is None


def test_augmented_miou_is_compared_with_the_multi_scale_figure(tmp_path):
    single = document('swin_base', 'upernet', metrics={'mIoU': 48, 'mAcc': 50, 'aAcc': 80})
    augmented = single | {'test_time_augmentation': True}
    results = results_of(tmp_path, single, augmented)
    (table,) = build_tables(results, load_published())
    columns = table_columns(table)
    assert columns['TTA'] == ['no', 'yes']
    assert columns['published mIoU'] == ['48.13†', '49.72†']
    assert columns['Δ mIoU'] == ['−0.13', '−1.72']
    assert any('multi-scale' in note for note in table.notes)


def test_without_a_multi_scale_figure_there_is_no_comparison(tmp_path):
    published = published_of(tmp_path, entry('dcn_tiny', 'upernet_ade20k_160k', miou=45.0))
    columns = columns_of(
        tmp_path,
        document('dcn_tiny', 'upernet'),
        document('dcn_tiny', 'upernet', test_time_augmentation=True),
        published=published,
    )
    assert columns['Δ mIoU'] == ['−5.00', '–']


# LaTeX


def latex_rows(text):
    """Return the cells of each row between the first and the last rule of each `tabular`."""
    bodies = re.findall(r'\\toprule(.*?)\\bottomrule', text, flags=re.DOTALL)
    lines = [line.strip() for body in bodies for line in body.strip().splitlines()]
    rows = [line for line in lines if line != r'\midrule']
    assert all(row.endswith(r'\\') for row in rows)
    return [re.split(r'(?<!\\)&', row.removesuffix(r'\\')) for row in rows]


def is_balanced(text):
    """Return whether braces that are not escaped nest, and signs of mathematics pair."""
    bare = re.sub(r'\\.', '', text)
    depth = 0
    for character in bare:
        depth += {'{': 1, '}': -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0 and bare.count('$') % 2 == 0


def test_latex_structure(tmp_path):
    results = results_of(
        tmp_path,
        document('r50'),
        document('swin_tiny', metrics=box_and_mask(43.3, 40)),
        document('dcn_tiny', metrics=box_and_mask(47.3, 42), epoch=8),
        document('convnext_tiny', metrics=box_and_mask(41, 30)),
        document('dcn_base', 'upernet'),
        document('swin_base', 'upernet'),
    )
    text = render(results, load_published(), 'latex')
    for environment in ('table*', 'tabular'):
        assert text.count(rf'\begin{{{environment}}}') == 2
        assert text.count(rf'\end{{{environment}}}') == 2
    assert is_balanced(text)
    assert text.isascii()
    detection, segmentation = re.split(r'(?<=\\end{table\*})', text)[:2]
    for part, columns in ((detection, 13 + 1), (segmentation, 8 + 1)):
        (alignment,) = re.findall(r'\\begin{tabular}{([lr]+)}', part)
        assert {len(row) for row in latex_rows(part)} == {len(alignment)}
        assert len(alignment) == columns
    # One rule below the heading; the baseline has the size of the only scale.
    assert detection.count(r'\midrule') == 1
    assert r'swin\_tiny & 48.1 & 266.6 & \textbf{43.3} & \textbf{63.3}' in detection
    assert '& 44.3 & $-$1.0 & 40.5 & $-$0.5 & epoch 12/12' in detection
    assert r'epoch 8/12$^\ddagger$' in detection
    assert r'48.13$^\dagger$' in segmentation
    assert r'\caption{UperNet on ADE20K val.}' in segmentation
    assert r'$^\dagger$ Published for a different architecture' in segmentation


NAMES = st.text(
    st.characters(blacklist_categories=('Cc', 'Cs')) | st.sampled_from('\\&|_*%$#{}[]^~<>`'),
    min_size=1,
    max_size=12,
)


@given(NAMES, NAMES)
def test_any_name_is_escaped(tmp_path_factory, backbone, dataset):
    results = results_of(
        tmp_path_factory.mktemp('names'),
        document() | {'backbone': backbone, 'dataset': dataset},
    )
    latex = render(results, [], 'latex')
    assert is_balanced(latex)
    assert [len(row) for row in latex_rows(latex)] == [10, 10]
    lines = render(results, [], 'markdown').splitlines()
    rows = [re.sub(r'\\.', '', line) for line in lines if line.startswith('|')]
    assert [row.count('|') for row in rows] == [11, 11, 11]


def test_escapes():
    assert escape_markdown('a_b _c_ d|e *f* <g>') == r'a_b \_c\_ d\|e \*f\* \<g\>'
    # At the start of a row, LaTeX would read these as options of the previous line break.
    assert escape_latex('[1pt] *') == '{[}1pt] {*}'
    assert escape_latex('a_b 5% {c} \\ ~') == (r'a\_b 5\% \{c\} \textbackslash{} \textasciitilde{}')


# CSV


def test_csv_holds_the_numbers_unrounded(tmp_path):
    metrics = box_and_mask(47.4449, 42.1) | {'mask_AP75': None, 'box_AP.small': 21.125}
    metrics['box_AP'] = 48.2
    results = results_of(
        tmp_path,
        document('dcn_tiny', metrics=metrics, seed=None),
        document('r50', test_time_augmentation=True, epoch=8),
    )
    baseline, dcn = csv.DictReader(io.StringIO(render(results, load_published(), 'csv')))
    assert {name: dcn[name] for name in metrics} == {
        name: '' if value is None else repr(value) for name, value in metrics.items()
    }
    assert (
        dcn
        | {
            'backbone': 'dcn_tiny',
            'mixer': 'dcn',
            'scale': 'tiny',
            'dataset': 'COCO val2017',
            'total_parameters': '48123456',
            'backbone_parameters': '30000000',
            'flops': '266553000000',
            'flops_height': '800',
            'flops_width': '1280',
            'flops_without': '',
            'published_box_AP': '47.2',
            # 48.2 - 47.2 is not exactly 1 in floating point.
            'difference_box_AP': '1.0',
            'difference_mask_AP': '-0.4',
            'published_box_AP_architecture': 'unified',
            'published_box_AP_source': 'STM-Evaluation detection/readme.md',
            'config': 'mask_rcnn_dcn_tiny',
            'epoch': '12',
            'max_iterations': '',
            'finished': 'true',
            'test_time_augmentation': 'false',
            'seed': '',
            'checkpoint': 'last.pth',
            'checkpoint_sha256': 'a1',
            'weights_sha256': 'b2',
            'created': '2026-01-01T00:00:00+00:00',
            'result': (tmp_path / 'run0' / 'evaluation' / 'result.json').as_posix(),
        }
        == dcn
    )
    assert baseline['backbone'] == 'r50'
    assert (baseline['mixer'], baseline['box_AP.small'], baseline['published_box_AP']) == ('', '', '')
    assert (baseline['finished'], baseline['test_time_augmentation']) == ('false', 'true')


@given(st.lists(st.floats(0, 100), min_size=3, max_size=3))
def test_csv_reads_back_to_the_same_numbers(tmp_path_factory, values):
    metrics = dict(zip(('mIoU', 'mAcc', 'aAcc'), values, strict=True))
    folder = tmp_path_factory.mktemp('csv')
    results = results_of(folder, document('swin_tiny', 'upernet', metrics=metrics))
    (row,) = csv.DictReader(io.StringIO(render(results, load_published(), 'csv')))
    assert [float(row[name]) for name in metrics] == values
    assert float(row['difference_mIoU']) == pytest.approx(metrics['mIoU'] - 44.51)


def test_csv_of_several_data_sets_but_one_task(tmp_path):
    results = results_of(tmp_path, document(dataset='data/a'), document(dataset='data/b'))
    rows = csv.DictReader(io.StringIO(render(results, [], 'csv')))
    assert sorted(row['dataset'] for row in rows) == ['data/a', 'data/b']
    mixed = [*results, *results_of(tmp_path / 'more', document(task='upernet'))]
    with pytest.raises(UserError, match='choose one with --task'):
        render(mixed, [], 'csv')


# Bad input


def without(key):
    content = copy.deepcopy(document())
    *parents, last = key.split('.')
    inner = content
    for parent in parents:
        inner = inner[parent]
    del inner[last]
    return content


@pytest.mark.parametrize(
    'key',
    [
        'schema_version',
        'task',
        'scale',
        'backbone',
        'dataset',
        'metrics',
        'metrics.box_AP75',
        'config.name',
        'checkpoint.weights_sha256',
        'iteration',
        'max_epochs',
        'parameters.total',
        'seed',
        'test_time_augmentation',
        'created',
    ],
)
def test_a_missing_key_is_named(tmp_path, key):
    with pytest.raises(UserError) as caught:
        results_of(tmp_path, without(key))
    file = tmp_path / 'run0' / 'evaluation' / 'result.json'
    assert str(caught.value) == (
        f"{file}: '{key}' is missing; evaluate the checkpoint again with this version of the "
        'suite, or remove the file'
    )


@pytest.mark.parametrize(
    ('changes', 'complaint'),
    [
        ({'schema_version': 4}, 'schema version 4'),
        ({'schema_version': True}, "'schema_version' is not a whole number"),
        ({'task': 'retina'}, "task 'retina' is not one of mask_rcnn, upernet"),
        ({'seed': '0'}, "'seed' is not a whole number or null"),
        ({'test_time_augmentation': 0}, "'test_time_augmentation' is not true or false"),
        ({'epoch': True}, "'epoch' is not a whole number or null"),
        ({'backbone': None}, "'backbone' is not text"),
        ({'mixer': None}, "'mixer' and 'scale'"),
        ({'config': 'name'}, "'config' is not an object"),
        ({'metrics': [1]}, "'metrics' is not an object"),
        ({'metrics': box_and_mask(40, 30) | {'box_AP': 'high'}}, "'metrics.box_AP' is not"),
        (
            {'metrics': box_and_mask(40, 30) | {'box_APs': -1}},
            "'metrics.box_APs' is -1, not a percentage",
        ),
        ({'metrics': box_and_mask(40, 30) | {'mask_AP': 101.0}}, "'metrics.mask_AP' is 101.0"),
        ({'complexity': 267}, "'complexity' is not an object or null"),
        ({'complexity': flops(267) | {'flops': 266.6}}, "'complexity.flops' is not a whole number"),
        ({'complexity': flops(267) | {'height': None}}, "'complexity.height' is not a whole number"),
        ({'complexity': flops(267, missing=[3])}, "'complexity.uncounted_operators.0' is not text"),
        ({'created': 'yesterday'}, "'created' is 'yesterday'"),
        (
            {'complexity': flops(267) | {'flops': 10**400}},
            "'complexity.flops' is too large, a number of 401 digits",
        ),
        ({'images': 10**30}, "'images' is too large, a number of 31 digits"),
        ({'backbone': '\x1b[31mred'}, "'contestant.name' has characters that cannot be printed"),
        ({'dataset': 'half \ud800'}, "'dataset' has characters that cannot be printed"),
        ({'backbone': 'two\nlines'}, "'contestant.name' has characters that cannot be printed"),
    ],
)
def test_schema_violations_are_named(tmp_path, changes, complaint):
    with pytest.raises(UserError, match=r'result\.json') as caught:
        results_of(tmp_path, document() | changes)
    assert complaint in str(caught.value)


@pytest.mark.parametrize('content', [b'', b'{"task":', b'\xff\xfe\x00', b'[]', b'3', b'[' * 100_000])
def test_a_file_that_is_not_a_result(tmp_path, content):
    file = tmp_path / 'result.json'
    file.write_bytes(content)
    with pytest.raises(UserError, match=r'result\.json') as caught:
        load_results([tmp_path])
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('make', [os.mkfifo, os.mkdir], ids=['pipe', 'folder'])
def test_pipes_and_folders_are_refused_without_blocking(tmp_path, make):
    make(tmp_path / 'result.json')
    with pytest.raises(UserError, match=r'result\.json: cannot be read \(not a file\)'):
        load_results([tmp_path])


@pytest.mark.parametrize(
    'changes',
    [
        {'metrics': {**box_and_mask(40, 35), '\x1b[31m': 1.0}},
        {'per_class': {'\x1b[31m': {}}},
        {'per_class': {'box_AP': {'\ud800': 1.0}}},
    ],
    ids=str,
)
def test_unprintable_names_are_refused(tmp_path, changes):
    with pytest.raises(UserError, match='has characters that cannot be printed') as caught:
        results_of(tmp_path, document(**changes))
    assert str(caught.value).isprintable()


def test_html_stays_text(tmp_path):
    results = results_of(tmp_path, document() | {'backbone': '<script>alert(1)</script>'})
    assert r'\<script\>alert(1)\</script\>' in render(results, [], 'markdown')


@pytest.mark.parametrize(
    ('content', 'complaint'),
    [
        ('{', 'not JSON'),
        ('{}', 'not a list'),
        ('[3]', 'entry 1: not an object'),
        (
            json.dumps([entry(), entry('a', top3=3)]),
            'entry 2: no figure; give one of box_ap, mask_ap, ',
        ),
        (json.dumps([entry() | {'task': None}]), "'recipe' is missing or not text"),
        (json.dumps([entry() | {'batch_size': 0}]), "'batch_size' is not a positive whole number"),
        (json.dumps([entry(box_ap=float('nan'), mask_ap=3)]), "'box_ap' is missing or not a per"),
        (json.dumps([entry(box_ap='3', mask_ap=3)]), "'box_ap' is missing or not a per"),
        (json.dumps([entry(box_ap=3, mask_ap=472)]), "'mask_ap' is missing or not a per"),
        (json.dumps([entry(architecture='other')]), "'architecture' is not one of unified, original"),
        (json.dumps([entry() | {'source': None}]), "'source' is missing or not text"),
        (json.dumps([entry(), entry()]), 'entry 2: duplicate of dcn_tiny, mask_rcnn_coco_1x, unified'),
        (
            json.dumps([entry(task='upernet_ade20k_160k', miou=3, miou_multi_scale='x')]),
            "'miou_multi_scale' is missing or not a percentage",
        ),
    ],
)
def test_malformed_published_file(tmp_path, content, complaint):
    file = tmp_path / 'facts.json'
    file.write_text(content)
    with pytest.raises(UserError, match=r'facts\.json') as caught:
        load_published(file)
    assert complaint in str(caught.value)


# Command


def test_command_as_a_process(tmp_path):
    write(tmp_path / 'work_dirs', document(metrics=box_and_mask(47.4, 42.5)))
    command = [sys.executable, COMMAND]
    environment = os.environ | {'PYTHONPATH': str(ROOT)}
    options = {'cwd': tmp_path, 'env': environment, 'capture_output': True, 'encoding': 'utf-8'}
    done = subprocess.run(command, **options)
    assert (done.returncode, done.stderr) == (0, '')
    assert '| dcn_tiny |       48.1 |     266.6 |   47.4 |' in done.stdout
    assert '+0.2' in done.stdout
    failed = subprocess.run([*command, 'elsewhere'], **options)
    assert (failed.returncode, failed.stdout) == (2, '')
    assert failed.stderr == ('error: elsewhere is not a folder; give the work_dir of a training run\n')


def test_command_selects_a_task_and_writes_a_file(tmp_path, run):
    write(tmp_path, document(), document('swin_tiny'), document('dcn_tiny', 'upernet'))
    output = tmp_path / 'table.csv'
    output.write_text('old')
    options = ('--task', 'mask_rcnn', '--format', 'csv', '--published', 'none', '--output', output)
    assert run(tmp_path, *options) == (0, '', '')
    rows = list(csv.DictReader(io.StringIO(output.read_text())))
    assert [row['backbone'] for row in rows] == ['dcn_tiny', 'swin_tiny']
    assert {row['published_box_AP'] for row in rows} == {''}
    assert not list(tmp_path.glob('.table*'))


def test_command_reports_omitted_results(tmp_path, run):
    write(tmp_path, document(epoch=8, iteration=58640), document())
    status, text, remark = run(tmp_path)
    assert status == 0
    assert 'epoch 8/12' not in text
    assert remark.startswith('1 of 2 evaluations')
    status, text, remark = run(tmp_path, '--all')
    assert (status, remark) == (0, '')
    assert 'epoch 8/12' in text


def test_command_reads_a_published_file(tmp_path, run):
    write(tmp_path, document(metrics=box_and_mask(40, 35)))
    file = tmp_path / 'facts.json'
    file.write_text(json.dumps([entry(box_ap=39.0, mask_ap=35.0)]))
    status, text, _ = run(tmp_path, '--published', file)
    assert status == 0
    assert '+1.0' in text
    assert 'a paper.' in text


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['{}/missing'], 'is not a folder'),
        (['{}/empty'], 'tools/test.py writes one'),
        (['{}/broken'], 'not JSON'),
        (['{}/good', '--task', 'upernet'], 'found only instance_segmentation'),
        (['{}/good', '{}/more', '--format', 'csv'], 'choose one with --task'),
        (['{}/good', '--published', '{}/missing.json'], "give a different file, or 'none'"),
        (['{}/good', '--output', '{}/missing/table.md'], 'in an existing folder'),
        (['{}/good', '--output', '{}/empty'], 'in an existing folder'),
        (['{}/good', '--output', '{}/broken/result.json/table.md'], 'in an existing folder'),
        (['{}/good', '--output', '.'], 'in an existing folder'),
    ],
)
def test_command_on_bad_input(tmp_path, run, arguments, complaint):
    write(tmp_path / 'good', document())
    write(tmp_path / 'more', document(task='upernet'))
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'broken').mkdir()
    (tmp_path / 'broken' / 'result.json').write_text('{')
    before = sorted(tmp_path.rglob('*'))
    status, text, error = run(*(argument.format(tmp_path) for argument in arguments))
    assert (status, text) == (2, '')
    assert complaint in error
    assert error.startswith('error: ')
    assert error.count('\n') == 1
    assert sorted(tmp_path.rglob('*')) == before


def test_a_failed_write_keeps_the_old_file(tmp_path, run, monkeypatch):
    write(tmp_path / 'good', document())
    output = tmp_path / 'table.md'
    output.write_text('old')

    def refuse(source, target):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(os, 'replace', refuse)
    status, _, error = run(tmp_path / 'good', '--output', output)
    assert status == 2
    assert 'cannot be written (Permission denied)' in error
    assert output.read_text() == 'old'
    assert sorted(tmp_path.iterdir()) == [tmp_path / 'good', output]


def test_scratch_and_pretrained_do_not_compete_and_have_a_start_column(tmp_path):
    columns = columns_of(
        tmp_path,
        document('halo_tiny', initialization='scratch', metrics=box_and_mask(10, 10)),
        document('pvt_tiny', initialization='scratch', metrics=box_and_mask(11, 11)),
        document('swin_tiny', initialization='https://a/b.pth', metrics=box_and_mask(40, 40)),
        document('dcn_tiny', initialization='c.pth', metrics=box_and_mask(42, 42)),
        document('convnext_tiny', initialization=None, metrics=box_and_mask(50, 50)),
    )
    assert columns['Backbone'] == ['convnext_tiny', 'dcn_tiny', 'halo_tiny', 'pvt_tiny', 'swin_tiny']
    assert columns['Start'] == ['–', 'pretrained', 'scratch', 'scratch', 'pretrained']
    assert columns['box AP'] == ['50.0', '*42.0', '10.0', '*11.0', '40.0']


def test_part_of_a_data_set_is_marked_and_not_compared(tmp_path):
    published = published_of(tmp_path, entry())
    rows = [
        document('halo_tiny', images=9, metrics=box_and_mask(60, 60)),
        document('swin_tiny', metrics=box_and_mask(40, 40)),
        document('dcn_tiny', metrics=box_and_mask(41, 41)),
        document('dcn_tiny', images=4999, config={'name': 'part', 'text': ''}),
    ]
    columns = columns_of(tmp_path, *rows, published=published)
    order = columns['Backbone'], columns['Images'], columns['published box AP'], columns['box AP']
    assert sorted(zip(*order, strict=True)) == [
        ('dcn_tiny', '4999', '–', '40.0'),
        ('dcn_tiny', '5000', '47.2', '*41.0'),
        ('halo_tiny', '9', '–', '60.0'),
        ('swin_tiny', '5000', '–', '40.0'),
    ]


def test_skipped_images_make_a_data_set_partial(tmp_path):
    own = {'dataset': 'my data', 'images': 9}
    skipped = {'images_skipped': {'count': 1, 'names': ['val/a.jpg']}}
    (whole,) = build_tables(results_of(tmp_path / 'whole', document(**own)), [])
    (part,) = build_tables(results_of(tmp_path / 'part', document(**own) | skipped), [])
    assert 'Images' not in table_columns(whole)
    assert table_columns(part)['Images'] == ['9']
    with pytest.raises(UserError, match=r"'images_skipped\.count' is not a whole number"):
        results_of(tmp_path / 'wrong', document() | {'images_skipped': {'count': 'one'}})


# Classification


def classification(backbone, **changes):
    return document(
        backbone,
        'imagenet',
        dataset='ImageNet-1k val',
        metrics={'top1': 83.14, 'top5': 96.4},
        per_class={'top1': {'n01440764': 90.0}},
        images=50_000,
        complexity=flops(5.26, 224, 224),
        **changes,
    )


def markdown_of(tmp_path, *documents):
    for number, content in enumerate(documents):
        file = tmp_path / str(number) / 'result.json'
        file.parent.mkdir()
        file.write_text(json.dumps(content))
    return render(load_results([tmp_path]), load_published(), 'markdown')


@pytest.mark.parametrize('known', [True, False])
def test_imagenet_with_published_accuracy(tmp_path, known):
    """Released checkpoints, whose training length is unknown, are compared too."""
    length = {'epoch': 300, 'max_epochs': 300} if known else {'epoch': None, 'max_epochs': None}
    text = markdown_of(
        tmp_path, classification('halo_tiny', iteration=None, max_iterations=None, **length)
    )
    assert '### Classification on ImageNet-1k val' in text
    header, _, row = (
        [cell.strip() for cell in line.split('|')[1:-1]]
        for line in text.splitlines()
        if line.startswith('|')
    )
    cells = dict(zip(header, row, strict=True))
    assert (cells['top-1'], cells['top-5']) == ('83.1', '96.4')
    assert (cells['published top-1'], cells['Δ top-1']) == ('83.0', '+0.1')


@pytest.mark.parametrize('change', [{'max_epochs': 100}, {'images': 49_999}])
def test_imagenet_without_published_accuracy(tmp_path, change):
    wanted = {'epoch': 100, 'max_epochs': 300, **change}
    images = wanted.pop('images', 50_000)
    content = classification('halo_tiny', iteration=None, max_iterations=None, **wanted)
    text = markdown_of(tmp_path, content | {'images': images})
    assert '| published' not in text
    assert 'Not compared with published figures, because the runs differ. halo_tiny: ' in text


def boxes(value):
    return {name: each for name, each in box_and_mask(value, 0.0).items() if name.startswith('box')}


def test_detectors_without_masks_have_no_mask_columns(tmp_path):
    documents = [document(metrics=boxes(40.0)), document('swin_tiny', metrics=boxes(41.0))]
    results = results_of(tmp_path, *documents)
    (table,) = build_tables(results, published_of(tmp_path, entry()))
    assert table.title == 'Detection on COCO val2017'
    headings = [column.heading for column in table.columns]
    assert not [heading for heading in headings if 'mask' in heading or 'published' in heading]
    assert sorted(table_columns(table)['box AP']) == ['*41.0', '40.0']
    header = render(results, (), 'csv').splitlines()[0]
    assert 'box_AP75' in header
    assert 'mask' not in header


def test_a_mix_of_detectors_compares_boxes_and_dashes_missing_masks(tmp_path):
    documents = [
        document(metrics=boxes(48.0)),
        document('swin_tiny', metrics=box_and_mask(47.0, 42.0)),
        document('halo_tiny', metrics=box_and_mask(46.0, 41.0)),
    ]
    results = results_of(tmp_path, *documents)
    (table,) = build_tables(results, published_of(tmp_path, entry(), entry('swin_tiny')))
    columns = table_columns(table)
    assert table.title == 'Detection on COCO val2017'
    figures = zip(columns['box AP'], columns['mask AP'], strict=True)
    assert dict(zip(columns['Backbone'], figures, strict=True)) == {
        'dcn_tiny': ('*48.0', DASH),
        'swin_tiny': ('47.0', '*42.0'),
        'halo_tiny': ('46.0', '41.0'),
    }
    # Published detectors predict masks, so only detectors with masks are compared with them.
    published = dict(zip(columns['Backbone'], columns['published box AP'], strict=True))
    assert published == {'dcn_tiny': DASH, 'swin_tiny': '47.2', 'halo_tiny': DASH}
    lines = list(csv.DictReader(io.StringIO(render(results, (), 'csv'))))
    assert {line['backbone']: line['mask_AP'] for line in lines} == {
        'dcn_tiny': '',
        'swin_tiny': '42.0',
        'halo_tiny': '41.0',
    }


@pytest.mark.parametrize('missing', ['mask_AP50', 'box_AP'])
def test_incomplete_metrics_are_refused(tmp_path, missing):
    metrics = box_and_mask(40.0, 30.0)
    del metrics[missing]
    with pytest.raises(UserError, match=f"'metrics.{missing}' is missing"):
        results_of(tmp_path, document(metrics=metrics))


def told(backbone='dcn_tiny', task='mask_rcnn', batch_size=16, initialization='a.pth', **changes):
    """Return a result that records the start and the batch size of its training."""
    content = document(backbone, task, initialization=initialization, **changes)
    return content | {'batch_size': batch_size}


class TestLikeWithLike:
    """Differences from published figures are shown only if the run matches the published one."""

    @pytest.mark.parametrize(
        ('content', 'reason'),
        [
            (told(initialization='scratch'), 'start scratch, published pretrained'),
            (told(batch_size=2), 'batch size 2, published 16'),
            (told(max_epochs=24, epoch=24), '24 epochs, published 12'),
            (told(max_epochs=None), 'length unknown, published 12 epochs'),
            (told(test_time_augmentation=True), 'test-time augmentation, published without'),
            (told(images=48), '48 of 5,000 images'),
            (
                told(initialization='scratch', batch_size=8),
                'start scratch, published pretrained; batch size 8, published 16',
            ),
            (
                told('swin_tiny', 'upernet', initialization='scratch'),
                'start scratch, published pretrained',
            ),
            (told('swin_tiny', 'upernet', max_iterations=80_000), '80000 iterations, published 160000'),
        ],
    )
    def test_reason_for_no_comparison(self, tmp_path, content, reason):
        entries = load_published()
        (result,) = results_of(tmp_path, content)
        metric = 'box_AP' if result.task == 'instance_segmentation' else 'mIoU'
        assert find_figure(entries, result, metric) is None
        assert why_not_compared(entries, result) == reason
        for form in ('markdown', 'latex'):
            text = render([result], entries, form)
            assert f'{reason}.' in text.replace('\\_', '_')
            assert 'published box AP' not in text
        (record,) = csv.DictReader(io.StringIO(render([result], entries, 'csv')))
        assert record['not_compared'] == reason
        assert record[f'difference_{metric}'] == ''

    def test_a_run_as_published_has_no_note(self, tmp_path):
        entries = load_published()
        alike, scratch = told(), told('swin_tiny', initialization='scratch')
        (table,) = build_tables(results_of(tmp_path, alike, scratch), entries)
        columns = table_columns(table)
        assert columns['Backbone'] == ['dcn_tiny', 'swin_tiny']
        assert columns['Δ box AP'] == ['−7.2', '–']
        assert [note for note in table.notes if 'with published figures' in note] == [
            'Not compared with published figures, because the runs differ. '
            'swin_tiny: start scratch, published pretrained.'
        ]
        assert not any('published one is assumed' in note for note in table.notes)

    def test_classifiers_start_from_scratch_with_the_batch_of_their_mixer(self, tmp_path):
        entries = load_published()
        wanted = {'epoch': 300, 'max_epochs': 300, 'iteration': None, 'max_iterations': None}

        def reason(backbone, start, batch_size):
            folder = tmp_path / f'{backbone}{start}{batch_size}'
            content = classification(backbone, initialization=start, **wanted)
            return why_not_compared(entries, *results_of(folder, content | {'batch_size': batch_size}))

        assert reason('swin_tiny', 'scratch', 1024) is None
        assert reason('dcn_tiny', 'scratch', 4096) is None
        assert reason('dcn_tiny', 'scratch', 1024) == 'batch size 1024, published 4096'
        assert reason('swin_tiny', 'a.pth', 1024) == 'start pretrained, published scratch'

    def test_no_reason_if_nothing_is_published(self, tmp_path):
        own, unknown = told(dataset='mine', initialization='scratch'), told('mine_tiny', batch_size=2)
        for number, content in enumerate((own, unknown)):
            (result,) = results_of(tmp_path / str(number), content)
            assert why_not_compared(load_published(), result) is None
            assert why_not_compared([], result) is None


def test_models_with_different_classes_do_not_compete(tmp_path):
    def of(backbone, value, *classes):
        metrics = box_and_mask(value, value)
        return document(backbone, metrics=metrics) | {
            'per_class': {'box_AP': dict.fromkeys(classes, value)}
        }

    contest = (of('dcn_tiny', 40.0, 'a', 'b'), of('swin_tiny', 41.0, 'a', 'b'))
    alone = of('halo_tiny', 50.0, 'a')
    (table,) = build_tables(results_of(tmp_path, *contest, alone), ())
    found = dict(zip(*(table_columns(table)[name] for name in ('Backbone', 'box AP')), strict=True))
    assert found == {'dcn_tiny': '40.0', 'swin_tiny': '*41.0', 'halo_tiny': '50.0'}
