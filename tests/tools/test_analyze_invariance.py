"""`tools/analyze_invariance.py`: files, pictures, and error messages."""

import csv
import io
import json
import shutil
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image

from tests.commands import read_results
from tests.launching import TOOLS, environment_of_tests, free_port, places

KIND = 'Analyses'
METRICS = {
    'mask_rcnn': ['box AP', 'mask AP', 'box consistency', 'mask consistency'],
    'upernet': ['mIoU', 'consistency'],
}
# Names in `result.json`.
TESTED = {
    'mask_rcnn': {'box AP': 'box_AP', 'box AP50': 'box_AP50', 'mask AP': 'mask_AP'},
    'upernet': {'mIoU': 'mIoU', 'aAcc': 'aAcc'},
}
FEW = ('--steps', 2, '--directions', 'right', 'up')


@pytest.fixture(scope='session')
def checkpoints(weights, trials, tmp_path_factory):
    """A checkpoint of each task's model before training."""
    folder = tmp_path_factory.mktemp('checkpoints')
    for task in trials:
        torch.save({'state_dict': weights(task)}, folder / f'{task}.pth')
    return folder


@pytest.fixture
def analyze(commands, tmp_path):
    """Run `tools/analyze_invariance.py` in an empty folder."""
    return lambda *arguments: commands('analyze_invariance', *arguments, folder=tmp_path)


@pytest.fixture
def of_a_run(checkpoints):
    """Return arguments for a trial's model; `more` come before its overrides."""
    return lambda trial, *more: [
        trial.config, checkpoints / f'{trial.task}.pth', '--device', 'cpu', *more, *trial.arguments(),
    ]  # fmt: skip


@pytest.fixture
def damaged(trials, tmp_path):
    """Arguments with a copy of the segmentor's data, to be damaged, and the folder of their images."""
    trial = trials['upernet']
    root = shutil.copytree(trial.data_root, tmp_path / 'scenes')
    return ['--data-root', root, *trial.arguments()[2:]], root / 'images/validation'


class TestFiles:
    def test_contain_the_measurements(self, analyze, commands, trial, of_a_run, checkpoints, tmp_path):
        outcome = analyze(*of_a_run(trial, *FEW))
        assert outcome.status == 0, outcome.stderr[-3000:]
        written = tmp_path / 'work_dirs' / trial.config.stem / 'analysis'
        assert {file.name for file in written.iterdir()} == {
            f'invariance.{kind}' for kind in ('json', 'csv', 'png', 'pdf')
        }
        content = json.loads((written / 'invariance.json').read_text())
        assert content['shown'] == METRICS[trial.task]
        assert content['images']['count'] == 7
        assert content['checkpoint']['file'] == f'{trial.task}.pth'
        curves = content['curves']
        assert {name: curve['strengths'] for name, curve in curves.items()} == {
            'translation': [0, 64], 'rotation': [0, 90], 'scale': [0.2, 1.95],
        }  # fmt: skip
        assert curves['translation']['directions'] == ['right', 'up']
        rows = [*csv.DictReader(io.StringIO((written / 'invariance.csv').read_text()))]
        assert [row['transform'] for row in rows] == [name for name in curves for _ in range(2)]
        assert outcome.stdout.startswith('### Invariance')
        assert '| rotation ' in outcome.stdout
        commands.succeed('test', *of_a_run_of_test(trial, checkpoints), folder=tmp_path)
        tested = read_results(tmp_path / 'work_dirs')[-1]['metrics']
        for name, other in TESTED[trial.task].items():
            assert content['unchanged'][name] == pytest.approx(tested[other], abs=1e-3)
            for transform in ('translation', 'rotation'):
                assert curves[transform]['metrics'][name][0] == content['unchanged'][name]
                assert float(rows[0][name]) == content['unchanged'][name]

    @pytest.mark.skipif(places() < 2, reason='this machine has room for one process')
    def test_two_processes_give_identical_results(
        self, commands, analyze, trials, of_a_run, tmp_path, scenes
    ):
        root = twice_as_many(scenes / 'ADEChallengeData2016', tmp_path)
        trial = trials['upernet']
        config, checkpoint, *more = of_a_run(trial, '--transforms', 'rotation', '--steps', 2)
        more[more.index('--data-root') + 1] = root
        outcome = analyze(config, checkpoint, *more, '--output', 'one.json')
        assert outcome.status == 0, outcome.stderr[-3000:]
        done = subprocess.run(
            [
                commands.python, TOOLS / 'launch.py', '--nproc_per_node', '2', '--master_port',
                free_port(), TOOLS / 'analyze_invariance.py', config, checkpoint, *map(str, more),
                '--output', 'two.json', '--launcher', 'pytorch',
            ],
            env=environment_of_tests(**commands.forked), cwd=tmp_path, capture_output=True,
            text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        one, two = (json.loads((tmp_path / f'{name}.json').read_text()) for name in ('one', 'two'))
        assert two['hardware']['world_size'] == 2
        assert two['images']['count'] == 14
        assert one['curves'] == two['curves']
        assert one['unchanged'] == two['unchanged']
        assert done.stdout.count('### ') == 1
        assert not list(tmp_path.glob('*.partial'))


def of_a_run_of_test(trial, checkpoints):
    """Return the arguments of `tools/test.py`."""
    return [trial.config, checkpoints / f'{trial.task}.pth', *trial.arguments()]


def twice_as_many(root, folder):
    """Copy scenes in ADE20K layout with every validation scene twice, which makes two parts."""
    copy = shutil.copytree(root, folder / 'scenes')
    for place in ('images', 'annotations'):
        for file in [*(copy / place / 'validation').iterdir()]:
            shutil.copy(file, file.with_name(f'again_{file.name}'))
    return copy


@pytest.fixture(scope='session')
def results_of_runs(commands, trials, checkpoints, tmp_path_factory):
    """Results of both trials, of one image."""
    here = tmp_path_factory.mktemp('results')
    for task, trial in trials.items():
        few = [
            '--limit',
            1,
            '--steps',
            2,
            '--transforms',
            'rotation',
            'scale',
            '--output',
            f'{task}.json',
        ]
        run = [trial.config, checkpoints / f'{task}.pth', *few, *trial.arguments()]
        commands.succeed('analyze_invariance', *run, folder=here)
    return here


@pytest.fixture
def results(results_of_runs, tmp_path):
    """File names of results, copied to be damaged."""
    shutil.copytree(results_of_runs, tmp_path, dirs_exist_ok=True)
    return ['mask_rcnn.json', 'upernet.json']


class TestComparison:
    def test_shows_all(self, analyze, results, tmp_path):
        text = (tmp_path / 'upernet.json').read_text()
        (tmp_path / 'other.json').write_text(text.replace('upernet_dcn_micro', 'upernet_other'))
        outcome = analyze('--compare', 'upernet.json', 'other.json', '--output', 'both.png')
        assert outcome.status == 0, outcome.stderr[-3000:]
        rows = [line.split('|')[1:3] for line in outcome.stdout.splitlines() if '(upernet)' in line]
        assert [[cell.strip() for cell in row] for row in rows] == [
            [f'{name} (upernet)', transform]
            for name in ('upernet_dcn_micro', 'upernet_other')
            for transform in ('rotation', 'scale')
        ]
        assert 'warning' not in outcome.stderr
        with Image.open(io.BytesIO((tmp_path / 'both.png').read_bytes())) as picture:
            assert picture.width > 600
            assert len(np.unique(np.asarray(picture))) > 50
        assert (tmp_path / 'both.pdf').read_bytes().startswith(b'%PDF')

    def test_different_images_give_a_warning(self, analyze, results, tmp_path):
        content = json.loads((tmp_path / 'upernet.json').read_text())
        content['images']['sha256'] = 'other'
        (tmp_path / 'other.json').write_text(json.dumps(content))
        outcome = analyze('--compare', 'upernet.json', 'other.json', '--output', 'both.png')
        assert outcome.status == 0
        assert 'warning: the results were measured with different images' in outcome.stderr


class TestBadData:
    def test_no_folder(self, analyze, trials, of_a_run, refused, nothing_written):
        trial = trials['upernet']
        arguments = of_a_run(trial)
        arguments[arguments.index('--data-root') + 1] = 'nowhere'
        outcome = analyze(*arguments)
        refused(KIND, 'invariance: a data root that is not a folder', outcome, 'data root nowhere')
        assert nothing_written()

    def test_truncated(self, analyze, trials, checkpoints, damaged, refused, tmp_path):
        more, images = damaged
        file = sorted(images.iterdir())[2]
        file.write_bytes(file.read_bytes()[:-200])
        run = [trials['upernet'].config, checkpoints / 'upernet.pth', *FEW, *more]
        outcome = analyze(*run)
        refused(KIND, 'invariance: a truncated image', outcome, f'{file.name} is truncated')
        assert not [*(tmp_path / 'work_dirs').rglob('*.json')]

    def test_bad_images_can_be_skipped(self, analyze, trials, checkpoints, damaged, tmp_path):
        more, images = damaged
        file = sorted(images.iterdir())[2]
        file.write_bytes(file.read_bytes()[:-200])
        few = ['--transforms', 'rotation', '--steps', 1, '--skip-bad-images', '--output', 'some.json']
        outcome = analyze(trials['upernet'].config, checkpoints / 'upernet.pth', *few, *more)
        assert outcome.status == 0, outcome.stderr[-3000:]
        assert json.loads((tmp_path / 'some.json').read_text())['images']['count'] == 6

    def test_pipeline_that_flips(self, analyze, trials, of_a_run, refused):
        outcome = analyze(
            *of_a_run(trials['mask_rcnn'], *FEW),
            'test_dataloader.dataset.pipeline=[{"type":"LoadCheckedImage"},'
            '{"type":"RandomFlip","prob":1.0},{"type":"PackDetInputs"}]',
        )
        given = 'invariance: a test pipeline that flips'
        refused(KIND, given, outcome, 'does more than resize')

    def test_pipeline_without_label_maps(self, analyze, trials, of_a_run, refused):
        outcome = analyze(
            *of_a_run(trials['upernet'], *FEW),
            'test_dataloader.dataset.pipeline=[{"type":"LoadCheckedImage"},{"type":"PackSegInputs"}]',
        )
        given = 'invariance: a test pipeline without label maps'
        refused(KIND, given, outcome, 'loads no label maps')


class TestBadOptions:
    @pytest.mark.parametrize(
        ('given', 'more', 'message'),
        [
            ('an unknown transform', ['--transforms', 'rotations'], "unknown 'rotations'; choose from"),
            ('an unknown direction', ['--directions', 'north'], "unknown 'north'; choose from right"),
            ('`--strengths` with several transforms', ['--strengths', 4], 'cannot be combined'),
            (
                'a translation of half a pixel',
                ['--transforms', 'translation', '--strengths', 0.5],
                'give an integer number of pixels for translation',
            ),
            (
                'a strength out of range',
                ['--transforms', 'scale', '--strengths', 0],
                'give crop ratios from 0.05 to 20 for scale',
            ),
            ('a strength that is not a number', ['--strengths', 'nan'], "'nan' is not a number"),
            ('`--steps` of 0', ['--steps', 0], "'0' is not a whole number from 1"),
            ('`--reference-score` of 30', ['--reference-score', 30], 'give a number from 0 to 1'),
            ('`--rotate` with a segmentor', ['--rotate', 'before'], '--rotate is only for classifiers'),
            (
                '`--reference-score` with a segmentor',
                ['--reference-score', 0.5],
                '--reference-score is only for detectors',
            ),
            (
                '`--output` that does not end in .json',
                ['--output', 'all.csv'],
                'the name must end in .json',
            ),
        ],
    )
    def test_of_a_run(self, analyze, trials, of_a_run, refused, nothing_written, given, more, message):
        outcome = analyze(*of_a_run(trials['upernet'], *more))
        refused(KIND, f'invariance: {given}', outcome, message)
        assert nothing_written()

    @pytest.mark.parametrize(
        ('given', 'arguments', 'message'),
        [
            ('no checkpoint', ['config.py'], 'give CONFIG and CHECKPOINT'),
            (
                '`--compare` with `--steps`',
                ['--compare', 'a.json', '--steps', 2, '--output', 'a.png'],
                'remove --steps',
            ),
            (
                '`--compare` with a missing file',
                ['--compare', 'a.json', '--output', 'a.png'],
                'a.json does not exist; give JSON files that tools/analyze_invariance.py wrote',
            ),
        ],
    )
    def test_together(self, analyze, refused, tmp_path, given, arguments, message):
        refused(KIND, f'invariance: {given}', analyze(*arguments), message)
        assert not list(tmp_path.iterdir())


class TestBadCheckpoint:
    def test_backbone_alone(
        self, analyze, trials, of_a_run, weights, refused, nothing_written, tmp_path
    ):
        alone = {
            name.removeprefix('backbone.'): value
            for name, value in weights('upernet').items()
            if name.startswith('backbone.')
        }
        folder = tmp_path / 'checkpoints'
        folder.mkdir()
        torch.save(alone, folder / 'alone')
        trial = trials['upernet']
        outcome = analyze(trial.config, folder / 'alone', *of_a_run(trial)[2:])
        given = 'invariance: a checkpoint with only a backbone'
        refused(KIND, given, outcome, 'has only a backbone', 'the whole EncoderDecoder')
        assert nothing_written()


class TestBadResults:
    def test_of_different_tasks(self, analyze, results, refused, tmp_path):
        outcome = analyze('--compare', *results, '--output', 'both.png')
        given = 'invariance: `--compare` with results of different tasks'
        refused(KIND, given, outcome, 'is a result of segmentation, but mask_rcnn.json of detection')
        assert not (tmp_path / 'both.png').exists()

    @pytest.mark.parametrize(
        ('given', 'text', 'message'),
        [
            ('invalid JSON', '{"analysis": ', 'is not valid JSON, or is truncated'),
            ('a JSON file of a different kind', '{"metrics": {}}', 'is not an analysis of invariance'),
        ],
    )
    def test_content(self, analyze, refused, tmp_path, given, text, message):
        (tmp_path / 'other.json').write_text(text)
        outcome = analyze('--compare', 'other.json', '--output', 'all.png')
        refused(KIND, f'invariance: `--compare` with {given}', outcome, 'other.json', message)
