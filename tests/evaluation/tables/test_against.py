"""Tables of unified backbones against those of another family."""

import csv
import io
import re

import numpy as np
import pytest

from evaluation.results.reading import load_results
from evaluation.statistics.comparison import compare
from evaluation.tables.comparison import against_text, pairs_against
from evaluation.utils.errors import UserError
from tests.evaluation.metrics.problems import guesses, instance_evidence, write_result
from tests.evaluation.tables.test_table import load_command


def contestant(name, mixer, scale, family='original'):
    return {'contestant': {'name': name, 'family': family, 'mixer': mixer, 'scale': scale}}


ORIGINAL = contestant('original_swin_tiny', 'swin', 'tiny')


def classifier(folder, right, changes=(), backbone='swin_tiny', wrong=0):
    """Write a classifier that is right on some of 1000 images, beginning with image `wrong`."""
    answers = np.zeros(1000, bool)
    answers[wrong : wrong + right] = True
    changes = {'dataset': 'shapes', **dict(changes)}
    return write_result(folder, guesses(answers), backbone, **changes)


def table(folder, family='original', format='markdown'):
    pairs = pairs_against(load_results([folder]), family)
    return against_text([(a, compare(a, b, 300), b) for a, b in pairs], family, format)


def rows_of(text):
    heading, _, *rows = [line for line in text.splitlines() if line.startswith('|')]
    split = [[cell.strip() for cell in line.strip('|').split('|')] for line in (heading, *rows)]
    return [dict(zip(split[0], row, strict=True)) for row in split[1:]]


def test_a_known_difference(tmp_path):
    """The unified network is right on the 500 images of the other one, and on 100 more."""
    classifier(tmp_path / 'a', 600)
    classifier(tmp_path / 'b', 500, ORIGINAL)
    text = table(tmp_path)
    (row,) = rows_of(text)
    assert (row['Mixer'], row['Scale'], row['Against']) == ('swin', 'tiny', 'original_swin_tiny')
    assert (row['unified top-1'], row['original top-1']) == ('60.0', '50.0')
    found = re.fullmatch(r'\+10\.0 \(\+(\d+\.\d) to \+(\d+\.\d)\)', row['Δ top-1'])
    # The standard error of a paired difference on 100 of 1000 images is sqrt(0.1 * 0.9 / 1000).
    low, high = (float(end) for end in found.groups())
    assert (low, high) == pytest.approx((10 - 1.96 * 0.949, 10 + 1.96 * 0.949), abs=0.3)
    assert 'One seed per model' in text


def test_a_difference_by_chance_is_marked(tmp_path):
    classifier(tmp_path / 'a', 500)
    classifier(tmp_path / 'b', 499, ORIGINAL, wrong=5)
    (row,) = rows_of(table(tmp_path))
    assert row['Δ top-1'].startswith('+0.1 (−')
    assert row['Δ top-1'].endswith(')≈')


def test_the_sign_is_unified_minus_other(tmp_path):
    classifier(tmp_path / 'a', 500)
    classifier(tmp_path / 'b', 600, ORIGINAL)
    row = next(csv.DictReader(io.StringIO(table(tmp_path, format='csv'))))
    assert float(row['difference']) == pytest.approx(-10)
    assert float(row['difference_high']) < 0
    assert (row['value'], row['value_against'], row['told_apart']) == ('50.0', '60.0', 'true')


def test_pairs_are_by_mixer_and_scale_in_table_order(tmp_path):
    for number, name in enumerate(('swin_tiny', 'pvt_tiny', 'swin_small', 'dcn_tiny')):
        classifier(tmp_path / f'u{number}', 500 + number, backbone=name)
    others = [
        contestant('original_swin_small', 'swin', 'small'),
        ORIGINAL,
        contestant('original_pvt_v2_b2', 'pvt', 'tiny'),
        contestant('original_resnet50', None, None),
    ]
    for number, other in enumerate(others):
        classifier(tmp_path / f'o{number}', 400 + number, other)
    pairs = pairs_against(load_results([tmp_path]), 'original')
    assert [(a[0].contestant.name, b[0].contestant.name) for a, b in pairs] == [
        ('pvt_tiny', 'original_pvt_v2_b2'),
        ('swin_tiny', 'original_swin_tiny'),
        ('swin_small', 'original_swin_small'),
    ]


def test_any_family_can_be_the_other_side(tmp_path):
    classifier(tmp_path / 'a', 600)
    classifier(tmp_path / 'b', 500, ORIGINAL)
    classifier(tmp_path / 'c', 550, contestant('timm:swin', 'swin', 'tiny', 'timm'))
    (row,) = rows_of(table(tmp_path, 'timm'))
    assert (row['Against'], row['timm top-1']) == ('timm:swin', '55.0')


def test_seeds_are_averaged(tmp_path):
    for seed, right in enumerate((600, 620)):
        classifier(tmp_path / f'a{seed}', right, {'seed': seed})
    classifier(tmp_path / 'b', 500, ORIGINAL)
    text = table(tmp_path)
    (row,) = rows_of(text)
    assert row['unified top-1'] == '61.0 ± 1.4'
    assert row['Δ top-1'].startswith('+11.0 (')
    assert 'Figures are means over seeds' in text


@pytest.mark.parametrize(
    'change',
    [
        {'max_epochs': 24, 'epoch': 24},
        {'iteration': 80_000},
        {'initialization': 'released'},
        {'data': {'sha256': 'other'}},
        {'test_time_augmentation': True},
        {'batch_size': 32},
        {'training_data': {'sha256': 'other'}},
    ],
    ids=str,
)
def test_different_trainings_are_no_pair(tmp_path, change):
    classifier(tmp_path / 'a', 600)
    classifier(tmp_path / 'b', 500, ORIGINAL | change)
    with pytest.raises(UserError, match='no finished unified result agrees with one of original in'):
        table(tmp_path)


def test_detectors_have_a_difference_for_boxes_and_for_masks(tmp_path):
    write_result(tmp_path / 'a', instance_evidence(20, detector=1), 'swin_tiny')
    write_result(tmp_path / 'b', instance_evidence(20, detector=2), 'swin_tiny', **ORIGINAL)
    (row,) = rows_of(table(tmp_path))
    for kind in ('box', 'mask'):
        sides = [float(row[f'{side} {kind} AP']) for side in ('unified', 'original')]
        shown = float(row[f'Δ {kind} AP'].split()[0].replace('−', '-'))
        assert shown == pytest.approx(sides[0] - sides[1], abs=0.11)
    latex = table(tmp_path, format='latex')
    assert r'$\Delta$ AP$^{\mathrm{box}}$' in latex
    rows = list(csv.DictReader(io.StringIO(table(tmp_path, format='csv'))))
    assert [row['metric'] for row in rows][:2] == ['box_AP', 'box_AP50']
    assert len(rows) == 6


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['--against', 'original'], "is of the family 'original'; found only unified ones"),
        (['--against', 'unified'], "is of the family 'unified'; found only unified ones"),
        (
            ['--against', 'original', '--ci'],
            '--against shows only differences, with intervals; omit --ci',
        ),
        (['--against', 'original', '--published-rows'], 'omit --published-rows'),
        (['--against', 'original', '--analyses'], 'omit --analyses'),
        (['--against', 'original', '--resamples', '3'], '--resamples is 3'),
    ],
    ids=str,
)
def test_refusals_are_one_line(tmp_path, monkeypatch, capsys, arguments, complaint):
    classifier(tmp_path / 'a', 600)
    monkeypatch.setattr('sys.argv', ['table.py', str(tmp_path), *arguments])
    with pytest.raises(SystemExit) as caught:
        load_command().main()
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


def test_command_prints_only_the_differences(tmp_path, monkeypatch, capsys):
    classifier(tmp_path / 'a', 600)
    classifier(tmp_path / 'b', 500, ORIGINAL)
    monkeypatch.setattr('sys.argv', ['table.py', str(tmp_path), '--against', 'original'])
    load_command().main()
    text = capsys.readouterr().out
    assert text.count('###') == 1
    assert '### Classification on shapes, unified against original' in text
    assert len(rows_of(text)) == 1
