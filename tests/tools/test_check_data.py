"""tools/check_data.py: what it prints, its exit status, and that trainings start on what it mends."""

import json
import os
import shutil

import pytest

from tests.commands import read_results
from tests.tools.test_bad_data import IMAGES, INSTANCES, edit, halve, of_first_annotation, on

KIND = 'Data'


@pytest.fixture
def check(commands, tmp_path):
    return lambda *arguments: commands('check_data', *arguments, folder=tmp_path)


@pytest.fixture
def damaged(trial, tmp_path):
    """Data whose second training image is cut short; of COCO, a box is wrong as well."""
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
    assert f'       1  truncated images\n            {IMAGES[trial.task, "train"]} ends early' in (
        outcome.stdout
    )
    if trial.task == 'mask_rcnn':
        line = f'{INSTANCES}: of the annotations, the one with id 1 has the bbox [0, 0, nan, 5]'
        assert f'       1  boxes that are no numbers\n            {line}' in outcome.stdout


def test_a_training_starts_on_what_was_mended(check, commands, trial, damaged, tmp_path):
    assert check('--data-root', 'data', '--fix', 'mended').status == 1
    assert check('--data-root', 'mended').status == 0
    commands.succeed('train', trial.config, *on(tmp_path / 'mended', trial), folder=tmp_path)
    assert read_results(tmp_path / 'work_dirs')[-1]['images'] == 7


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
def test_a_name_that_is_no_text(check, trials, tmp_path, arguments):
    data = shutil.copytree(trials['upernet'].data_root, tmp_path / 'data')
    with open(os.fsencode(data / 'images/training') + b'/\xff.jpeg', 'wb'):
        pass
    outcome = check('--data-root', 'data', *arguments)
    assert outcome.status == 1
    assert 'Traceback' not in outcome.stderr
    written = (tmp_path / 'findings').read_text() if '--output' in arguments else outcome.stdout
    assert 'images/training/\\udcff.jpeg' in written


def with_categories_reversed(content):
    return {**content, 'categories': content['categories'][::-1]}


@pytest.mark.parametrize(
    ('given', 'arguments', 'message'),
    [
        ('a folder that is not there', ['--data-root', 'nowhere'], 'nowhere is not a folder'),
        ('no layout that is known', ['--data-root', '.'], 'has none of the known layouts'),
        (
            'another `--kind` than the data have',
            ['--data-root', 'data', '--kind', 'ade20k'],
            'has neither images/training nor images/validation',
        ),
        (
            '`--num-classes` of COCO',
            ['--data-root', 'data', '--num-classes', 80],
            '--num-classes is of ade20k and imagenet',
        ),
        (
            '`--fix` to a folder with files',
            ['--data-root', 'data', '--fix', 'there'],
            'is there already; give a new folder, nothing is overwritten',
        ),
        (
            '`--fix` inside of the data',
            ['--data-root', 'data', '--fix', 'data/mended'],
            'is inside of the data root; give a folder elsewhere',
        ),
        (
            '`--fix` to a link',
            ['--data-root', 'data', '--fix', 'link'],
            '--fix link is a link; give a folder',
        ),
        (
            '`--fix`, and no folder of images',
            ['--data-root', 'annotations_alone', '--fix', 'mended'],
            '--fix: no folder of images is in annotations_alone; get them, and put them there',
        ),
        (
            '`--fix`, and categories that differ between the files',
            ['--data-root', 'others', '--fix', 'mended'],
            'has other categories than instances_train2017.json, or another order; correct the',
        ),
        (
            '`--output` in a folder that is not there',
            ['--data-root', 'data', '--output', 'nowhere/a.txt'],
            'give a file in an existing folder',
        ),
    ],
)
def test_bad_input(check, trials, tmp_path, refused, given, arguments, message):
    data = shutil.copytree(trials['mask_rcnn'].data_root, tmp_path / 'data')
    shutil.copytree(data / 'annotations', tmp_path / 'annotations_alone/annotations')
    shutil.copytree(data, tmp_path / 'others')
    edit(tmp_path / 'others' / INSTANCES, with_categories_reversed)
    (tmp_path / 'link').symlink_to('there')
    (tmp_path / 'there').mkdir()
    (tmp_path / 'there/notes.txt').touch()
    before = {path: path.stat().st_mtime for path in tmp_path.rglob('*')}
    refused(KIND, f'tools/check_data.py, {given}', check(*arguments), message)
    assert {path: path.stat().st_mtime for path in tmp_path.rglob('*')} == before
