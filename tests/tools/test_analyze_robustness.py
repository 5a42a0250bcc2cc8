"""`tools/analyze_robustness.py`: files, pictures, and error messages."""

import io
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from tests.launching import TOOLS, environment_of_tests, free_port, places, start

KIND = 'Analyses'
METRICS = {'mask_rcnn': ['box AP', 'mask AP'], 'upernet': ['mIoU']}
SHORT = ['--steps', 2, '--budgets', 0, 4, '--corruptions', 'fog', 'pixelate', '--severities', 1, 3]


@pytest.fixture
def analyze(commands, tmp_path):
    """Run `tools/analyze_robustness.py` in an empty folder."""
    return lambda *arguments: commands('analyze_robustness', *arguments, folder=tmp_path)


@pytest.fixture(scope='session')
def checkpoints(trials, weights, tmp_path_factory):
    """Checkpoint files with random weights, by task."""
    files = {task: tmp_path_factory.mktemp('checkpoints') / f'{task}.pth' for task in trials}
    for task, file in files.items():
        torch.save({'state_dict': weights(task)}, file)
    return files


@pytest.fixture
def of_a_run(checkpoints):
    """Arguments that analyze a trial's model on the CPU."""

    def arguments(trial, *more, limit=3):
        start = [trial.config, checkpoints[trial.task], '--limit', limit, '--device', 'cpu', *more]
        return [*start, *trial.arguments()]

    return arguments


def figures(file):
    """Return all figures of a result."""
    content = json.loads(file.read_text())
    return {name: content[name] for name in ('clean', 'attacks', 'corruptions', 'summary', 'plan')}


class TestFiles:
    def test_contain_the_measurements(self, analyze, trial, of_a_run, tmp_path):
        outcome = analyze(*of_a_run(trial, *SHORT))
        assert outcome.status == 0, outcome.stderr[-3000:]
        written = tmp_path / 'work_dirs' / trial.config.stem / 'analysis'
        kinds = ('json', 'csv', 'png', 'pdf')
        assert {file.name for file in written.iterdir()} == {f'robustness.{kind}' for kind in kinds}
        content = json.loads((written / 'robustness.json').read_text())
        assert content['config']['name'] == trial.config.stem
        assert content['checkpoint']['file'] == f'{trial.task}.pth'
        assert content['images']['count'] == 3
        assert content['plan']['budgets'] == [0.0, 4.0]
        assert [(e['attack'], e['budget']) for e in content['attacks']] == [
            ('fgsm', 0.0), ('fgsm', 4.0), ('pgd', 0.0), ('pgd', 4.0)
        ]  # fmt: skip
        assert [(e['corruption'], e['severity']) for e in content['corruptions']] == [
            ('fog', 1), ('fog', 3), ('pixelate', 1), ('pixelate', 3)
        ]  # fmt: skip
        for entry in content['attacks'][::2]:
            assert entry['metrics'] == content['clean']['metrics']
            assert entry['loss'] == content['clean']['loss']
        fgsm, pgd = (entry['loss'] for entry in content['attacks'][1::2])
        assert pgd >= fgsm > content['clean']['loss']
        assert outcome.stdout.startswith('### Robustness')
        shown = [line.split('|')[2].strip() for line in outcome.stdout.splitlines()[4:] if '|' in line]
        assert shown == METRICS[trial.task]
        assert (written / 'robustness.pdf').read_bytes().startswith(b'%PDF')

    @pytest.mark.parametrize('left_out', ['attacks', 'corruptions'])
    def test_attacks_or_corruptions_only(self, analyze, trials, of_a_run, tmp_path, left_out):
        kept = {'attacks': ['--corruptions', 'fog'], 'corruptions': ['--attacks', 'fgsm']}[left_out]
        more = [f'--{left_out}', 'none', *kept, '--output', 'half.json']
        outcome = analyze(*of_a_run(trials['upernet'], *more, limit=1))
        assert outcome.status == 0, outcome.stderr[-3000:]
        content = json.loads((tmp_path / 'half.json').read_text())
        assert not content[left_out]
        assert bool(content['summary']) == (left_out == 'attacks')
        assert (content['clean']['loss'] is None) == (left_out == 'attacks')

    @pytest.mark.skipif(places() < 2, reason='this machine has room for one process')
    def test_two_processes_give_identical_results(self, commands, analyze, trial, of_a_run, tmp_path):
        arguments = of_a_run(trial, *SHORT, limit=7)
        assert analyze(*arguments, '--output', 'one.json').status == 0
        done = subprocess.run(
            [
                commands.python, TOOLS / 'launch.py', '--nproc_per_node', '2', '--master_port',
                free_port(), TOOLS / 'analyze_robustness.py', *map(str, arguments),
                '--output', 'two.json', '--launcher', 'pytorch',
            ],
            env=environment_of_tests(**commands.forked), cwd=tmp_path, capture_output=True,
            text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert figures(tmp_path / 'one.json') == figures(tmp_path / 'two.json')
        assert (tmp_path / 'one.csv').read_bytes() == (tmp_path / 'two.csv').read_bytes()
        assert done.stderr.count('result written') == 1
        assert done.stdout.count('### ') == 1

    def test_resumes_after_ctrl_c(self, analyze, trials, of_a_run, tmp_path):
        arguments = of_a_run(trials['upernet'], *SHORT, limit=7)
        whole = analyze(*arguments, '--output', 'whole.json')
        assert whole.status == 0, whole.stderr[-3000:]
        command = [sys.executable, TOOLS / 'analyze_robustness.py', *arguments]
        running = start([*command, '--output', tmp_path / 'again.json'], tmp_path / 'log')
        while not list(tmp_path.glob('again.partial/*/*.npz')):
            assert running.poll() is None
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        status = running.wait(60)
        said = (tmp_path / 'log/stderr').read_text()
        assert status == 130, said
        assert 'to resume, run the same command again' in said
        outcome = analyze(*arguments, '--output', 'again.json')
        assert outcome.status == 0, outcome.stderr[-3000:]
        assert 'parts are already finished' in outcome.stdout + outcome.stderr
        assert figures(tmp_path / 'again.json') == figures(tmp_path / 'whole.json')
        assert not (tmp_path / 'again.partial').exists()


@pytest.fixture(scope='session')
def results_of_runs(commands, trials, checkpoints, tmp_path_factory):
    """Results of one image for each task, and more results of the segmentor."""
    here = tmp_path_factory.mktemp('results')
    runs = {
        'mask_rcnn': ('mask_rcnn', SHORT),
        'upernet': ('upernet', SHORT),
        'other': ('upernet', ['--budgets', 2, 4, *SHORT[:2], *SHORT[5:], '--seed', 1]),
        'l2': ('upernet', ['--norm', 'l2', *SHORT]),
    }
    for name, (task, more) in runs.items():
        run = [trials[task].config, checkpoints[task], '--limit', 1, '--device', 'cpu', *more]
        run += ['--output', f'{name}.json', *trials[task].arguments()]
        commands.succeed('analyze_robustness', *run, folder=here)
    return here


@pytest.fixture
def results(results_of_runs, tmp_path):
    """File names of results, copied to be damaged."""
    shutil.copytree(results_of_runs, tmp_path, dirs_exist_ok=True)
    return ['upernet.json', 'other.json']


class TestComparison:
    def test_shows_all(self, analyze, results, tmp_path):
        outcome = analyze('--compare', *results, '--output', 'both.png')
        assert outcome.status == 0, outcome.stderr[-3000:]
        heading, _, first, second = outcome.stdout.splitlines()[2:6]
        assert [word for word in ('FGSM 0', 'FGSM 2', 'PGD 4', 'mPC') if word in heading] == [
            'FGSM 0', 'FGSM 2', 'PGD 4', 'mPC'
        ]  # fmt: skip
        clean = json.loads((tmp_path / 'upernet.json').read_text())['clean']['metrics']['mIoU']
        assert {row.split('|')[4].strip() for row in (first, second)} == {f'{clean:.1f}'}
        with Image.open(io.BytesIO((tmp_path / 'both.png').read_bytes())) as picture:
            assert picture.width > 600
            assert len(np.unique(np.asarray(picture))) > 50
        assert (tmp_path / 'both.pdf').read_bytes().startswith(b'%PDF')


class TestBadOptions:
    @pytest.mark.parametrize(
        ('given', 'more', 'message'),
        [
            ('an unknown corruption', ['--corruptions', 'fogg'], 'jpeg_compression; did you mean fog?'),
            ('an unknown attack', ['--attacks', 'cw'], "unknown attack 'cw'; choose from fgsm"),
            ('a severity of 6', ['--severities', 6], "'6' is not a whole number from 1 to 5"),
            ('a budget of 300', ['--budgets', 300], "'300' is not a number from 0 to 255"),
            ('a budget that is not a number', ['--budgets', 'nan'], "'nan' is not a number from 0"),
            ('`--steps` of 0', ['--steps', 0], "'0' is not a whole number from 1 to 1000"),
            (
                'neither attacks nor corruptions',
                ['--attacks', 'none', '--corruptions', 'none'],
                'leave nothing to do',
            ),
            (
                '`none` combined with an attack',
                ['--attacks', 'none', 'pgd'],
                '--attacks none pgd: none must be the only value',
            ),
            (
                '`--norm` without attacks',
                ['--attacks', 'none', '--norm', 'l2'],
                '--norm applies to attacks; remove it',
            ),
            (
                '`--severities` without corruptions',
                ['--corruptions', 'none', '--severities', 1],
                '--severities applies to corruptions; remove it',
            ),
            (
                '`--output` that does not end in .json',
                ['--output', 'a.png'],
                'the name must end in .json',
            ),
        ],
    )
    def test_of_a_run(self, analyze, trials, of_a_run, refused, nothing_written, given, more, message):
        outcome = analyze(*of_a_run(trials['upernet'], *more))
        refused(KIND, f'robustness: {given}', outcome, message)
        assert nothing_written()

    @pytest.mark.parametrize(
        ('given', 'arguments', 'message'),
        [
            ('no checkpoint', ['config.py'], 'give CONFIG and CHECKPOINT'),
            ('`--compare` without `--output`', ['--compare', 'a.json'], 'needs --output FILE.png'),
            (
                '`--compare` with `--attacks`',
                ['--compare', 'a.json', '--attacks', 'pgd', '--output', 'a.png'],
                'remove --attacks',
            ),
            (
                '`--compare` with a missing file',
                ['--compare', 'a.json', '--output', 'a.png'],
                'a.json does not exist',
            ),
        ],
    )
    def test_together(self, analyze, refused, tmp_path, given, arguments, message):
        refused(KIND, f'robustness: {given}', analyze(*arguments), message)
        assert not list(tmp_path.iterdir())


class TestBadModels:
    def test_weights_of_a_different_model(
        self, analyze, trials, of_a_run, checkpoints, refused, nothing_written
    ):
        arguments = of_a_run(trials['upernet'])
        arguments[1] = checkpoints['mask_rcnn']
        outcome = analyze(*arguments)
        refused(KIND, 'robustness: weights of a different model', outcome, 'checkpoint ')
        assert nothing_written()

    def test_diverged(self, analyze, trials, of_a_run, checkpoints, refused, tmp_path):
        state = torch.load(checkpoints['upernet'], weights_only=True)['state_dict']
        state['decode_head.conv_seg.weight'].fill_(torch.nan)
        torch.save({'state_dict': state}, tmp_path / 'diverged.pth')
        arguments = of_a_run(trials['upernet'], '--corruptions', 'none', limit=1)
        arguments[1] = 'diverged.pth'
        outcome = analyze(*arguments)
        refused(KIND, 'robustness: weights that contain NaN', outcome, 'its training diverged')
        assert not list(tmp_path.rglob('*.json'))


class TestBadResults:
    @pytest.mark.parametrize(
        ('given', 'files', 'message'),
        [
            (
                'of different tasks',
                ['upernet', 'mask_rcnn'],
                'mask_rcnn.json is for detection, but upernet',
            ),
            ('of different norms', ['upernet', 'l2'], 'l2.json and upernet.json differ in norm'),
        ],
    )
    def test_results_that_cannot_be_compared(
        self, analyze, results, refused, tmp_path, given, files, message
    ):
        outcome = analyze('--compare', *(f'{name}.json' for name in files), '--output', 'both.png')
        refused(KIND, f'robustness: `--compare` with results {given}', outcome, message)
        assert not (tmp_path / 'both.png').exists()

    def test_different_analysis(self, analyze, refused, tmp_path):
        (tmp_path / 'other.json').write_text('{"analysis": "effective receptive field"}')
        outcome = analyze('--compare', 'other.json', '--output', 'a.png')
        given = 'robustness: `--compare` with a result of a different analysis'
        refused(KIND, given, outcome, 'other.json is not an analysis of robustness')
