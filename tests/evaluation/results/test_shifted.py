"""Tests under shift are found, checked, and kept apart from tests in distribution."""

import json
import shutil
from statistics import fmean

import pytest

from evaluation.results.reading import load_results
from evaluation.results.shift_suites import COCO_O
from evaluation.results.shifted import in_distribution, shifted_runs
from evaluation.tables.comparison import runs_at
from tests.evaluation.results.shifted_folders import write_shifted_run


@pytest.fixture
def folder(tmp_path):
    return write_shifted_run(tmp_path / 'run' / '20260101_120000', 'swin_tiny')


def refused(folder):
    """Return the only message about runs below a folder, none of which is complete."""
    messages = []
    assert shifted_runs(load_results([folder]), on_problem=messages.append) == []
    (message,) = messages
    return message


def test_figures_of_a_run(folder):
    results = load_results([folder.parent])
    (run,) = shifted_runs(results)
    own = {each.domain.name: each for each in results if each.domain}
    assert [*run.domains] == [*COCO_O.domains]
    assert run.domains == own
    values = [each.metrics['box_AP'] for each in own.values()]
    assert run.inside.domain is None
    assert run.mean == pytest.approx(fmean(values))
    inside = run.inside.metrics['box_AP']
    assert run.effective_robustness == pytest.approx(fmean(values) - 0.45 * inside)
    assert len({*values, inside}) == 7


def test_a_domain_without_objects_leaves_the_mean_undefined(folder):
    file = folder / 'coco-o/tattoo/result.json'
    edit(file, metrics=dict.fromkeys(json.loads(file.read_text())['metrics']))
    (run,) = shifted_runs(load_results([folder]))
    assert (run.mean, run.effective_robustness) == (None, None)


def test_domains_are_apart_unless_nothing_else_is_there(folder):
    assert [each.domain for each in in_distribution(load_results([folder]))] == [None]
    alone = load_results([folder / 'coco-o'])
    assert in_distribution(alone) == alone
    assert shifted_runs(alone) == []


def test_a_model_is_compared_by_its_test_in_distribution(folder):
    (result,) = runs_at(folder.parent)
    assert result.path == folder / 'result.json'
    (domain,) = runs_at(folder / 'coco-o/sketch')
    assert domain.domain.name == 'sketch'


def test_the_newest_of_several_tests_counts(folder):
    newer = write_shifted_run(
        folder.parent / '20260102_120000', 'swin_tiny', created='2026-01-02T00:00:00+00:00'
    )
    results = load_results([folder.parent])
    assert [run.inside.path.parent for run in shifted_runs(results)] == [newer]
    assert len(shifted_runs(results, every=True)) == 2


def test_missing_domain(folder):
    shutil.rmtree(folder / 'coco-o/cartoon')
    assert 'coco-o lacks the result of cartoon; test again with --shift' in refused(folder)


def test_missing_test_in_distribution(folder):
    other = write_shifted_run(folder.parent / 'other', 'dcn_tiny')
    (folder / 'result.json').unlink()
    messages = []
    (run,) = shifted_runs(load_results([folder.parent]), on_problem=messages.append)
    assert run.inside.path.parent == other
    missing = f'lacks the result in distribution, {folder / "result.json"}; test again with --shift'
    assert missing in messages[0]


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_different_weights(folder):
    checkpoint = {'file': 'x', 'sha256': 'b', 'weights_sha256': 'other'}
    edit(folder / 'coco-o/sketch/result.json', checkpoint=checkpoint)
    assert 'are of different weights; test again with --shift' in refused(folder)


def test_suite_of_a_later_version(folder):
    for name in COCO_O.domains:
        file = folder / f'coco-o/{name}/result.json'
        edit(file, domain={'suite': 'coco-x', 'name': name})
    assert "unknown suite 'coco-x'; this version knows coco-o" in refused(folder)
