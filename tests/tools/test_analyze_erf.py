"""`tools/analyze_erf.py`: files, pictures, and error messages."""

import io
import json
import shutil
import subprocess

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tests.launching import TOOLS, environment_of_tests, free_port, places

KIND = 'Analyses'
TARGETS = {
    'mask_rcnn': [*(f'stage{i}' for i in (1, 2, 3, 4)), *(f'neck{i}' for i in (1, 2, 3, 4, 5))],
    'upernet': [*(f'stage{i}' for i in (1, 2, 3, 4)), 'logits'],
}
COMPARED = {'mask_rcnn': ['stage1', 'stage4', 'neck5'], 'upernet': ['stage1', 'logits']}


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
    """Nine images, which make two parts."""
    folder = tmp_path_factory.mktemp('images')
    for number in range(9):
        noise = np.random.default_rng(number).integers(0, 256, (64, 80, 3), np.uint8)
        cv2.imwrite(str(folder / f'{number}.jpg'), noise)
    return folder


@pytest.fixture
def images(folder, tmp_path):
    """A copy of the images, to be damaged."""
    return shutil.copytree(folder, tmp_path / 'images')


@pytest.fixture
def analyze(commands, tmp_path):
    """Run `tools/analyze_erf.py` in an empty folder."""
    return lambda *arguments: commands('analyze_erf', *arguments, folder=tmp_path)


def options(trial):
    """Return overrides that make a trial's model small."""
    return trial.arguments()[2:]


def of_a_run(trial, folder, *more):
    return [trial.config, '--images', folder, '--size', 64, *more, *options(trial)]


def read(file):
    with np.load(file.with_suffix('.npz')) as arrays:
        return json.loads(file.read_text()), {name: arrays[name] for name in arrays.files}


class TestFiles:
    def test_contain_the_measurements(self, analyze, trial, folder, tmp_path):
        outcome = analyze(*of_a_run(trial, folder, '--limit', 2))
        assert outcome.status == 0, outcome.stderr[-3000:]
        written = tmp_path / 'work_dirs' / trial.config.stem / 'analysis'
        assert {file.name for file in written.iterdir()} == {
            f'erf.{k}' for k in ('json', 'npz', 'png', 'pdf')
        }
        content, maps = read(written / 'erf.json')
        assert [*content['targets']] == [*maps] == TARGETS[trial.task]
        assert content['config']['name'] == trial.config.stem
        assert content['checkpoint']['file'] is None
        assert len(content['checkpoint']['weights_sha256']) == 64
        assert content['images']['count'] == 2
        assert (content['size'], content['seed']) == (64, 0)
        for name, facts in content['targets'].items():
            assert facts['images'] == 2
            assert maps[name].shape == (64, 64)
            assert list(facts['area_ratios']) == ['0.2', '0.3', '0.5', '0.99']
            assert facts['total_contribution'] == pytest.approx(maps[name].sum())
        assert content['targets']['stage3']['grid'] == [4, 4]
        assert '| stage4 ' in outcome.stdout
        assert outcome.stdout.startswith('### ')
        assert (written / 'erf.pdf').read_bytes().startswith(b'%PDF')

    def test_checkpoint_is_used(self, analyze, trials, folder, weights, tmp_path):
        trial = trials['upernet']
        state = weights(trial.task)
        torch.save({'state_dict': state}, tmp_path / 'whole.pth')
        alone = {n.removeprefix('backbone.'): v for n, v in state.items() if n.startswith('backbone.')}
        torch.save({'model': alone}, tmp_path / 'alone.pth')
        found = {}
        for name in ('whole', 'alone'):
            run = [f'{name}.pth', '--limit', 1, '--output', f'{name}.json']
            outcome = analyze(trial.config, run[0], *of_a_run(trial, folder, *run[1:])[1:])
            assert outcome.status == 0, outcome.stderr[-3000:]
            found[name] = read(tmp_path / f'{name}.json')
        content, maps = found['alone']
        assert [*content['targets']] == TARGETS[trial.task][:4]
        assert [*found['whole'][0]['targets']] == TARGETS[trial.task]
        assert content['checkpoint']['file'] == 'alone.pth'
        assert found['whole'][0]['seed'] is None
        assert all(np.array_equal(maps[name], found['whole'][1][name]) for name in maps)

    def test_score(self, analyze, trials, folder, tmp_path):
        trial = trials['mask_rcnn']
        outcome = analyze(*of_a_run(trial, folder, '--targets', 'score', '--limit', 2))
        assert outcome.status == 0, outcome.stderr[-3000:]
        content, _ = read(tmp_path / 'work_dirs' / trial.config.stem / 'analysis/erf.json')
        assert content['targets']['score']['images'] == 2
        assert content['targets']['score']['grid'] is None

    @pytest.mark.skipif(places() < 2, reason='this machine has room for one process')
    def test_two_processes_give_identical_results(self, commands, analyze, trials, folder, tmp_path):
        trial = trials['upernet']
        arguments = of_a_run(trial, folder, '--device', 'cpu', '--targets', 'stage2', 'logits')
        assert analyze(*arguments, '--output', 'one.json').status == 0
        done = subprocess.run(
            [
                commands.python, TOOLS / 'launch.py', '--nproc_per_node', '2', '--master_port',
                free_port(), TOOLS / 'analyze_erf.py', *map(str, arguments), '--output', 'two.json',
                '--launcher', 'pytorch',
            ],
            env=environment_of_tests(**commands.forked), cwd=tmp_path, capture_output=True,
            text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        (one, alone), (two, shared) = (read(tmp_path / f'{name}.json') for name in ('one', 'two'))
        assert two['hardware']['world_size'] == 2
        assert all(np.array_equal(alone[name], shared[name]) for name in alone)
        assert one['targets'] == two['targets']
        assert done.stderr.count('result written') == 1
        assert done.stdout.count('### ') == 1


@pytest.fixture(scope='session')
def results_of_runs(commands, trials, folder, tmp_path_factory):
    """Results of both trials, on one image of 64x64."""
    here = tmp_path_factory.mktemp('results')
    for task, trial in trials.items():
        more = ['--limit', 1, '--output', f'{task}.json', '--targets', *COMPARED[task]]
        run = of_a_run(trial, folder, *more)
        commands.succeed('analyze_erf', *run, folder=here)
    return here


@pytest.fixture
def results(results_of_runs, tmp_path):
    """File names of results, copied to be damaged."""
    shutil.copytree(results_of_runs, tmp_path, dirs_exist_ok=True)
    return ['mask_rcnn.json', 'upernet.json']


class TestComparison:
    def test_shows_all(self, analyze, results, tmp_path):
        outcome = analyze('--compare', *results, '--output', 'both.png')
        assert outcome.status == 0, outcome.stderr[-3000:]
        rows = [line for line in outcome.stdout.splitlines() if line.startswith('| mask_rcnn_swin')]
        assert [row.split('|')[2].strip() for row in rows] == COMPARED['mask_rcnn']
        content, _ = read(tmp_path / 'mask_rcnn.json')
        ratios = [f'{100 * r:.0f}' for r in content['targets']['stage4']['area_ratios'].values()]
        shown = [cell.strip() for cell in rows[1].split('|')[4:8]]
        assert [cell for cell, ratio in zip(shown, ratios, strict=True) if int(ratio) >= 10] == [
            ratio for ratio in ratios if int(ratio) >= 10
        ]
        with Image.open(io.BytesIO((tmp_path / 'both.png').read_bytes())) as picture:
            assert picture.width > 600
            assert len(np.unique(np.asarray(picture))) > 50
        assert (tmp_path / 'both.pdf').read_bytes().startswith(b'%PDF')


class TestBadImages:
    def test_no_folder(self, analyze, trials, refused, nothing_written):
        outcome = analyze(*of_a_run(trials['upernet'], 'nowhere'))
        refused(
            KIND,
            'receptive fields: `--images` that is not a folder',
            outcome,
            '--images nowhere is not a folder',
        )
        assert nothing_written()

    def test_empty_folder(self, analyze, trials, refused, tmp_path):
        (tmp_path / 'empty').mkdir()
        outcome = analyze(*of_a_run(trials['upernet'], 'empty'))
        refused(
            KIND,
            'receptive fields: `--images` with an empty folder',
            outcome,
            '--images empty has no images',
        )

    def test_truncated(self, analyze, trials, refused, images):
        content = (images / '3.jpg').read_bytes()
        (images / '3.jpg').write_bytes(content[: len(content) // 2])
        outcome = analyze(*of_a_run(trials['upernet'], images))
        refused(KIND, 'receptive fields: a truncated image', outcome, f'{images}/3.jpg is truncated')

    def test_no_image(self, analyze, trials, refused, images):
        (images / '0.jpg').write_text('<html>404 Not Found</html>')
        outcome = analyze(*of_a_run(trials['upernet'], images))
        refused(
            KIND,
            'receptive fields: an image file that cannot be decoded',
            outcome,
            '0.jpg cannot be decoded',
        )


class TestBadOptions:
    @pytest.mark.parametrize(
        ('given', 'more', 'message'),
        [
            (
                'an unknown target',
                ['--targets', 'stage5'],
                "unknown target 'stage5'; choose from stage1",
            ),
            ('target `score` with a segmentor', ['--targets', 'score'], "unknown target 'score'"),
            (
                '`--size` that is not a multiple of 32',
                ['--size', 70],
                '--size 70: give a multiple of 32',
            ),
            ('`--batch` that is too large', ['--batch', 9], '--batch 9 is too large; give at most 8'),
            ('`--size` that is too large', ['--size', 16416], 'from 1 to 16384'),
            ('`--limit` of 0', ['--limit', 0], "'0' is not a whole number from 1"),
            (
                '`--output` that does not end in .json',
                ['--output', 'erf.png'],
                'the name must end in .json',
            ),
            ('`--device cuda:77` without a GPU', ['--device', 'cuda:77'], 'cuda:77'),
        ],
    )
    def test_of_a_run(self, analyze, trials, folder, refused, nothing_written, given, more, message):
        if '--device' in more and torch.cuda.is_available():
            pytest.skip('this machine has GPUs')
        outcome = analyze(*of_a_run(trials['upernet'], folder, *more))
        refused(KIND, f'receptive fields: {given}', outcome, message)
        assert nothing_written()

    def test_no_detection(self, analyze, trials, folder, refused, nothing_written):
        trial = trials['mask_rcnn']
        outcome = analyze(
            *of_a_run(trial, folder, '--targets', 'score', '--limit', 1),
            'model.test_cfg.rcnn.score_thr=0.99',
        )
        refused(
            KIND,
            'receptive fields: target `score` with a detector that finds nothing',
            outcome,
            'no image has a detection',
        )
        assert nothing_written()

    @pytest.mark.parametrize(
        ('given', 'arguments', 'message'),
        [
            ('no config', [], 'give CONFIG and --images FOLDER'),
            ('a config without `--images`', ['config.py'], 'give CONFIG and --images FOLDER'),
            ('`--compare` without `--output`', ['--compare', 'a.json'], 'needs --output FILE.png'),
            (
                '`--compare` with `--images`',
                ['--compare', 'a.json', '--images', '.', '--output', 'a.png'],
                'remove --images',
            ),
            (
                '`--compare` with `--output` that does not end in .png',
                ['--compare', 'a.json', '--output', 'a.jpg'],
                'the name must end in .png',
            ),
            (
                '`--compare` with a missing file',
                ['--compare', 'a.json', '--output', 'a.png'],
                'a.json does not exist',
            ),
        ],
    )
    def test_together(self, analyze, refused, tmp_path, given, arguments, message):
        refused(KIND, f'receptive fields: {given}', analyze(*arguments), message)
        assert not list(tmp_path.iterdir())


class TestBadCheckpoint:
    def test_different_model(self, analyze, trials, folder, weights, refused, tmp_path):
        torch.save({'state_dict': weights('mask_rcnn')}, tmp_path / 'other.pth')
        trial = trials['upernet']
        outcome = analyze(trial.config, 'other.pth', *of_a_run(trial, folder)[1:])
        refused(KIND, 'receptive fields: weights of a different model', outcome, 'checkpoint other.pth')

    def test_backbone_alone_has_no_logits(self, analyze, trials, folder, weights, refused, tmp_path):
        trial = trials['upernet']
        alone = {
            name.removeprefix('backbone.'): value
            for name, value in weights('upernet').items()
            if name.startswith('backbone.')
        }
        torch.save(alone, tmp_path / 'alone.pth')
        more = ['--targets', 'stage1', 'logits']
        outcome = analyze(trial.config, 'alone.pth', *of_a_run(trial, folder, *more)[1:])
        given = 'receptive fields: target `logits` with a checkpoint that has only a backbone'
        refused(KIND, given, outcome, 'contains only a backbone, but logits needs more')


class TestBadResults:
    def test_different_size(self, analyze, results, refused, tmp_path):
        content = json.loads((tmp_path / results[1]).read_text())
        (tmp_path / 'large.json').write_text(json.dumps({**content, 'size': 96}))
        outcome = analyze('--compare', results[0], 'large.json', '--output', 'both.png')
        given = 'receptive fields: `--compare` with results at different sizes'
        refused(
            KIND,
            given,
            outcome,
            'large.json was measured at 96x96',
            'compare results with the same --size',
        )
        assert not (tmp_path / 'both.png').exists()

    @pytest.mark.parametrize(
        ('given', 'text', 'message'),
        [
            ('invalid JSON', '{"analysis": ', 'is not valid JSON, or is truncated'),
            (
                'a JSON file of a different kind',
                '{"metrics": {}}',
                'is not an analysis of receptive fields',
            ),
            ('a JSON file that holds a list', '[]', 'is not an analysis of receptive fields'),
            (
                'a result of a later version of the suite',
                '{"analysis": "effective receptive field", "schema_version": 99}',
                'a different version of the suite',
            ),
        ],
    )
    def test_content(self, analyze, refused, tmp_path, given, text, message):
        (tmp_path / 'other.json').write_text(text)
        outcome = analyze('--compare', 'other.json', '--output', 'erf.png')
        refused(KIND, f'receptive fields: `--compare` with {given}', outcome, 'other.json', message)

    def test_maps(self, analyze, results, refused, tmp_path):
        maps = tmp_path / 'upernet.npz'
        maps.write_bytes(maps.read_bytes()[:-100])
        outcome = analyze('--compare', *results, '--output', 'erf.png')
        refused(
            KIND,
            'receptive fields: `--compare` with a damaged map file',
            outcome,
            'upernet.npz is corrupt',
        )
        maps.unlink()
        outcome = analyze('--compare', *results, '--output', 'erf.png')
        refused(
            KIND,
            'receptive fields: `--compare` with a missing map file',
            outcome,
            'upernet.npz, which has the maps of',
            'is missing',
        )
