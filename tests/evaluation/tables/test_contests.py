"""Baselines compete with contestants of the same size."""

import json

import pytest

from evaluation.results.reading import load_results
from evaluation.tables.table import build_tables, contests, winners
from tests.evaluation.metrics.problems import as_version_2, as_version_3
from tests.evaluation.tables.test_table import box_and_mask, document, table_columns


def content(backbone, value, millions, recipe=None):
    whole = document(
        backbone,
        metrics=box_and_mask(value, value - 5),
        parameters={'total': round(millions * 1e6), 'backbone': round(millions * 5e5)},
    )
    whole = as_version_3(as_version_2(whole))
    whole['recipe'] |= recipe or {}
    return whole


def results_of(folder, *contents):
    for number, each in enumerate(contents):
        file = folder / f'{number}/result.json'
        file.parent.mkdir()
        file.write_text(json.dumps(each))
    return load_results([folder])


def shown(results):
    (table,) = build_tables(results, ())
    columns = table_columns(table)
    notes = [note for note in table.notes if note.startswith('Bold')]
    return dict(zip(columns['Backbone'], columns['box AP'], strict=True)), notes, len(table.groups)


TINY = (content('dcn_tiny', 40, 48), content('swin_tiny', 39, 48))


def test_baseline_of_the_same_size_competes(tmp_path):
    results = results_of(tmp_path, content('r50', 41, 44), *TINY)
    figures, (note,), groups = shown(results)
    assert figures == {'r50': '*41.0', 'dcn_tiny': '40.0', 'swin_tiny': '39.0'}
    assert note.startswith('Bold: best of each size, among')
    assert groups == 1


@pytest.mark.parametrize('millions', [30, 100])
def test_baseline_of_a_different_size_does_not_compete(tmp_path, millions):
    results = results_of(tmp_path, content('r50', 41, millions), *TINY)
    figures, _, groups = shown(results)
    assert figures == {'r50': '41.0', 'dcn_tiny': '*40.0', 'swin_tiny': '39.0'}
    assert [*figures][0 if millions < 48 else -1] == 'r50'
    assert groups == 2


def test_without_baselines_rows_compete_by_scale(tmp_path):
    _, (note,), _ = shown(results_of(tmp_path, *TINY))
    assert note.startswith('Bold: best of each scale, among')


def test_recipes_with_the_same_title_share_a_table_but_do_not_compete(tmp_path):
    longer = content('halo_tiny', 45, 48, {'name': 'mask_rcnn_coco_3x', 'epochs': 36})
    results = results_of(tmp_path, longer, *TINY)
    figures, _, _ = shown(results)
    assert figures == {'dcn_tiny': '*40.0', 'halo_tiny': '45.0', 'swin_tiny': '39.0'}


def test_unfinished_runs_do_not_compete(tmp_path):
    early = content('r50', 41, 44) | {'epoch': 8}
    results = results_of(tmp_path, early, *TINY)
    unfinished = next(result for result in results if result.contestant.name == 'r50')
    assert unfinished.path not in contests(results)
    best = winners('box_AP', results)
    assert unfinished.path not in best
    assert {row.contestant.name for rows in best.values() for row in rows} == {'dcn_tiny'}
