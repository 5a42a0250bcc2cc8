"""Conclusions of the demonstration from its tables."""

from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from evaluation.demo.findings import conclusions, mean_interval, mixers_line, pretraining_line
from evaluation.results.reading import load_results
from tests.evaluation.report.matrix import document, write_run

MIXERS = ('halo', 'pvt', 'swin')


class Known:
    """Uncertainty of a result, told apart from results whose figure differs by more than 5."""

    def __init__(self, result):
        self.result = result

    def is_told_from(self, other, metric):
        return abs(self.result.metrics[metric] - other.result.metrics[metric]) > 5


def results(tmp_path, scratch, pretrained):
    write_run(tmp_path, document())
    (base,) = load_results([tmp_path])
    found = []
    for start, figures in (('scratch', scratch), ('pretrained', pretrained)):
        for mixer, figure in zip(MIXERS, figures, strict=True):
            contestant = replace(base.contestant, name=f'{mixer}_micro', mixer=mixer)
            metrics = {**base.metrics, 'box_AP': figure}
            path = Path(f'{mixer}_{start}')
            changes = {'metrics': metrics, 'initialization': start, 'path': path}
            found.append(replace(base, contestant=contestant, **changes))
    return found


def test_interval_is_that_of_a_t_test():
    values = [4.8, 6.1, 2.2, 5.5, 9.0]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx(expected)


def test_pretraining_that_helps_every_mixer(tmp_path):
    line = pretraining_line(results(tmp_path, (10, 12, 11), (15, 17.5, 16.5)), 'box_AP')
    assert line == (
        '**Pretraining, box AP**: +5.3 on average over 3 mixers (95 % interval +4.6 to +6.1). '
        'This differs from 0 by more than chance.'
    )


def test_pretraining_whose_effect_varies(tmp_path):
    line = pretraining_line(results(tmp_path, (10, 12, 11), (15, 10, 12)), 'box_AP')
    assert line.endswith('This cannot be told apart from 0.')


def test_pretraining_of_one_mixer_says_nothing(tmp_path):
    line = pretraining_line(results(tmp_path, (10, 12, 11), (15, 10, 12))[:4], 'box_AP')
    assert 'fewer than two mixers' in line


def test_pairs_of_mixers(tmp_path):
    found = results(tmp_path, (10, 12, 17), (30, 31, 32))
    known = {result.path: Known(result) for result in found}
    # From scratch 17 and 10 differ by 7, 17 and 12 by 5.
    assert mixers_line(found, 'box_AP', known) == (
        '**Mixers, box AP**: 1 of 3 pairs from scratch and 0 of 3 pretrained pairs differ by more than '
        f'the choice of the {found[0].images} images explains.'
    )


def test_every_task_has_its_lines(tmp_path):
    found = results(tmp_path, (10, 12, 17), (30, 31, 32))
    known = {result.path: Known(result) for result in found}
    lines = conclusions(found, known)
    assert [line[:4] for line in lines[:2]] == ['- **'] * 2
    assert 'another seed' in lines[3]
