"""`tools/table.py --analyses`: analyses of the evaluated weights."""

import json

import pytest

KIND = 'Analyses'


@pytest.fixture
def evaluated(commands, trial, trained, tmp_path):
    """A checkpoint, with its evaluation in the folder of the test."""
    checkpoint = trained / f'{trial.end}.pth'
    commands.succeed('test', trial.config, checkpoint, *trial.arguments(), folder=tmp_path)
    return checkpoint


def test_receptive_field_beside_accuracy(commands, trial, evaluated, tmp_path):
    folder = trial.data_root / {'mask_rcnn': 'val2017', 'upernet': 'images/validation'}[trial.task]
    commands.succeed(
        'analyze_erf', trial.config, evaluated, '--images', folder, '--size', 64, '--limit', 1,
        '--targets', 'stage1', 'stage4', *trial.arguments()[2:], folder=tmp_path,
    )  # fmt: skip
    outcome = commands('table', '--analyses', folder=tmp_path)
    assert outcome.status == 0, outcome.stderr
    header, _, row = (
        [cell.strip() for cell in line.split('|')]
        for line in outcome.stdout.splitlines()
        if line.startswith('|')
    )
    (file,) = tmp_path.glob('work_dirs/*/analysis/erf.json')
    ratio = json.loads(file.read_text())['targets']['stage4']['area_ratios']['0.5']
    assert row[header.index('ERF stage4')] == f'{100 * ratio:.1f}'
    assert 'images: 1 of 64x64' in outcome.stdout


def test_no_analysis(commands, trial, evaluated, tmp_path, refused):
    outcome = commands('table', '--analyses', folder=tmp_path)
    refused(
        KIND, 'table: `--analyses` when there are no analyses', outcome, 'no analysis under work_dirs'
    )


def test_analyses_of_different_weights(commands, trial, evaluated, tmp_path, refused):
    file = tmp_path / 'work_dirs/other/analysis/erf.json'
    file.parent.mkdir(parents=True)
    content = {
        'analysis': 'erf',
        'checkpoint': {'weights_sha256': 'a'},
        'columns': {'figures': {'ERF stage4': 1.0}, 'note': ''},
        'created': '2026-01-01T00:00:00+00:00',
    }
    file.write_text(json.dumps(content))
    outcome = commands('table', '--analyses', folder=tmp_path)
    given = 'table: `--analyses` with analyses of different weights'
    refused(KIND, given, outcome, 'no analysis has the weights of these results')
