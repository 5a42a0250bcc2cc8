"""`tools/check_data.py`: output and exit status."""

import json
import os
import shutil

import pytest

from tests.tools.test_bad_data import IMAGES, INSTANCES, edit, halve, of_first_annotation

KIND = 'Data'


@pytest.fixture
def check(commands, tmp_path):
    return lambda *arguments: commands('check_data', *arguments, folder=tmp_path)


@pytest.fixture
def damaged(trial, tmp_path):
    """Data with a truncated training image and, for COCO, an invalid box."""
    data = shutil.copytree(trial.data_root, tmp_path / 'data')
    halve(data / IMAGES[trial.task, 'train'])
    if trial.task == 'mask_rcnn':
        edit(data / INSTANCES, of_first_annotation(bbox=[0, 0, float('nan'), 5]))
    return data


def test_clean(check, trial):
    outcome = check('--data-root', trial.data_root)
    assert outcome.status == 0
    assert outcome.stdout.endswith('clean: no findings\n')


def test_findings(check, trial, damaged):
    outcome = check('--data-root', 'data')
    assert outcome.status == 1
    assert 'Traceback' not in outcome.stderr
    assert f'       1  truncated images\n            {IMAGES[trial.task, "train"]} is truncated' in (
        outcome.stdout
    )
    if trial.task == 'mask_rcnn':
        line = f'{INSTANCES}: in annotations, the entry with id 1 has the bbox [0, 0, nan, 5]'
        assert f'       1  malformed boxes\n            {line}' in outcome.stdout


def test_json(check, trials, tmp_path):
    data = shutil.copytree(trials['mask_rcnn'].data_root, tmp_path / 'data')
    for image in (data / 'train2017').iterdir():
        halve(image)
    outcome = check('--data-root', 'data', '--format', 'json', '--output', 'findings.json')
    assert (outcome.status, outcome.stdout) == (1, '')
    found = json.loads((tmp_path / 'findings.json').read_text())
    assert found['numbers'] == {'truncated images': 8}
    assert {each['subject'] for each in found['findings']} == {
        f'train2017/00000000000{number}.jpg' for number in range(1, 9)
    }
    assert found['looked_at']['images'] == 15


@pytest.mark.parametrize('arguments', [(), ('--output', 'findings'), ('--format', 'json')])
def test_file_name_that_is_not_utf8(check, trials, tmp_path, arguments):
    data = shutil.copytree(trials['upernet'].data_root, tmp_path / 'data')
    with open(os.fsencode(data / 'images/training') + b'/\xff.jpeg', 'wb'):
        pass
    outcome = check('--data-root', 'data', *arguments)
    assert outcome.status == 1
    assert 'Traceback' not in outcome.stderr
    written = (tmp_path / 'findings').read_text() if '--output' in arguments else outcome.stdout
    assert 'images/training/\\udcff.jpeg' in written


@pytest.mark.parametrize(
    ('given', 'arguments', 'message'),
    [
        ('a folder that does not exist', ['--data-root', 'nowhere'], 'nowhere is not a folder'),
        ('a folder with an unknown layout', ['--data-root', '.'], 'has none of the known layouts'),
        (
            'a `--kind` that does not match the data',
            ['--data-root', 'data', '--kind', 'ade20k'],
            'has neither images/training nor images/validation',
        ),
        (
            '`--num-classes` with COCO data',
            ['--data-root', 'data', '--num-classes', 80],
            '--num-classes applies only to segmentation maps and imagenet',
        ),
        (
            '`--output` in a folder that does not exist',
            ['--data-root', 'data', '--output', 'nowhere/a.txt'],
            'give a file in an existing folder',
        ),
    ],
)
def test_bad_input(check, trials, tmp_path, refused, given, arguments, message):
    shutil.copytree(trials['mask_rcnn'].data_root, tmp_path / 'data')
    before = {path: path.stat().st_mtime for path in tmp_path.rglob('*')}
    refused(KIND, f'check_data: {given}', check(*arguments), message)
    assert {path: path.stat().st_mtime for path in tmp_path.rglob('*')} == before
