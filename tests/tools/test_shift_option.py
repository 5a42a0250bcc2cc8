"""`tools/test.py --shift`: a detector on the domains of a suite, and its tables."""

import json
import shutil

import numpy as np
import pytest

from evaluation.analysis.results import load_analyses
from evaluation.results.reading import load_results
from evaluation.results.shift_suites import COCO_O
from evaluation.results.shifted import shifted_runs
from evaluation.scenes.scene_datasets import write_coco
from evaluation.scenes.scenes import SceneStyle
from tests.coco_truth import remove_masks
from tests.commands import option_list, read_results
from tests.launching import free_port, places, shell

pytestmark = pytest.mark.habits

KIND = 'Data'
# Images of each domain; different numbers show that each is evaluated on its own.
IMAGES = dict(zip(COCO_O.domains, (3, 4, 5, 3, 4, 5), strict=True))


@pytest.fixture(scope='module')
def suite(tmp_path_factory):
    """Scenes in the layout of COCO-O, without masks."""
    root = tmp_path_factory.mktemp('coco-o')
    for number, (domain, images) in enumerate(IMAGES.items()):
        write_coco(root / domain, SceneStyle(height=64, width=64), {'val': images}, seed=10 + number)
        remove_masks(root / domain / COCO_O.annotations)
    return root


@pytest.fixture(scope='module')
def tested(commands, trials, work_dir_of, suite, tmp_path_factory):
    """The output of a test under shift, and its folder."""
    folder, trial = tmp_path_factory.mktemp('tested'), trials['mask_rcnn']
    checkpoint = work_dir_of('mask_rcnn') / 'epoch_2.pth'
    options = ['--shift', 'coco-o', suite, *trial.arguments()]
    done = commands.succeed('test', trial.config, checkpoint, *options, folder=folder)
    return done.stdout, folder


def test_each_domain_has_a_result_with_its_origin(tested):
    (inside, *domains) = sorted(read_results(tested[1]), key=lambda result: result['domain'] is not None)
    assert (inside['domain'], inside['dataset'], inside['images']) == (None, 'generated scenes', 7)
    assert 'mask_AP' in inside['metrics']
    assert {each['domain']['name']: each['images'] for each in domains} == IMAGES
    assert {each['dataset'] for each in domains} == {f'COCO-O {name}' for name in IMAGES}
    assert {each['checkpoint']['weights_sha256'] for each in [inside, *domains]} == {
        inside['checkpoint']['weights_sha256']
    }
    assert len({each['data']['sha256'] for each in [inside, *domains]}) == 7
    assert not any('mask_AP' in each['metrics'] for each in domains)
    (log,) = tested[1].rglob('2*.log')
    lines = [line for line in log.read_text().splitlines() if 'Epoch(test)' in line and 'mAP' in line]
    assert ['segm_mAP' in line for line in lines] == [True] + 6 * [False]


def test_a_domain_equals_a_test_on_its_data_alone(commands, trials, work_dir_of, suite, tested):
    trial, alone = trials['mask_rcnn'], tested[1] / 'alone'
    alone.mkdir()
    options = option_list({**trial.options, 'test_evaluator.metric': 'bbox'})
    options += ['test_dataloader.dataset.pipeline.2.with_mask=False']
    checkpoint = work_dir_of('mask_rcnn') / 'epoch_2.pth'
    given = [trial.config, checkpoint, '--data-root', suite / 'tattoo', *options]
    commands.succeed('test', *given, folder=alone)
    (expected,) = load_results([alone])
    shutil.rmtree(alone)
    (found,) = (r for r in load_results([tested[1]]) if r.domain and r.domain.name == 'tattoo')
    assert (found.metrics, found.data_sha256) == (expected.metrics, expected.data_sha256)
    assert found.metrics['box_AP50'] > 0


def test_summary_and_table(commands, tested):
    output, folder = tested
    found = {r.domain.name if r.domain else None: r.metrics['box_AP'] for r in load_results([folder])}
    inside = found.pop(None)
    mean = np.mean([*found.values()])
    (analysis,) = load_analyses([folder])
    assert analysis.figures == pytest.approx({'COCO-O': mean, 'ER': mean - 0.45 * inside})
    (file,) = folder.rglob('shift.json')
    content = json.loads(file.read_text())
    assert {name: each['value'] for name, each in content['domains'].items()} == found
    assert content['effective_robustness'] == pytest.approx(mean - 0.45 * inside)
    plain = commands.succeed('table', folder, '--analyses', folder=folder).stdout
    title = '### Mask R-CNN on generated scenes, in distribution beside COCO-O'
    assert output[output.index(title) :] == plain[plain.index(title) :]
    assert plain.count('###') == 2
    row = plain[plain.index(title) :].splitlines()[4]
    cells = [cell.strip().replace('−', '-') for cell in row.split('|')[1:-1]]
    shown = [inside, *(found[name] for name in COCO_O.domains), mean, mean - 0.45 * inside]
    assert cells[-9:] == [f'{value:.1f}' for value in shown]
    with_intervals = commands.succeed('table', folder, '--ci', '--resamples', 200, folder=folder).stdout
    assert 'from 200 resamples of the images of each data set' in with_intervals


@pytest.mark.skipif(places() < 2, reason='this machine has room for one process')
def test_two_processes_give_the_figures_of_one(commands, trials, work_dir_of, suite, tested, tmp_path):
    trial, checkpoint = trials['mask_rcnn'], work_dir_of('mask_rcnn') / 'epoch_2.pth'
    options = ['--shift', 'coco-o', suite, '--work-dir', tmp_path, *trial.arguments()]
    done = shell(
        'dist_test.sh', trial.config, checkpoint, 2, *options, PORT=free_port(), **commands.forked
    )
    assert done.status == 0, done.stderr[-4000:]
    (alone,), (shared,) = (shifted_runs(load_results([folder])) for folder in (tested[1], tmp_path))
    for name, result in alone.domains.items():
        assert shared.domains[name].metrics == pytest.approx(result.metrics, abs=1e-6)
        assert shared.domains[name].calibration == pytest.approx(result.calibration, abs=1e-4)
    assert shared.effective_robustness == pytest.approx(alone.effective_robustness, abs=1e-6)
    assert done.stdout.count('### ') == 1


def test_missing_domain(test, trials, suite, tmp_path, nothing_written, refused):
    trial, root = trials['mask_rcnn'], tmp_path / 'coco-o'
    shutil.copytree(suite, root, ignore=shutil.ignore_patterns('cartoon', '*.jpg'))
    outcome = test(trial.config, 'weights.pth', '--shift', 'coco-o', root, *trial.arguments())
    given = 'test: `--shift coco-o` with a folder that lacks a domain'
    refused(KIND, given, outcome, 'coco-o lacks the domain cartoon;', 'sketch, weather,')
    shutil.rmtree(root)
    assert nothing_written()


@pytest.mark.parametrize(
    ('options', 'task', 'given', 'message'),
    [
        (
            ['coco-x', 'data'],
            'mask_rcnn',
            'test: an unknown suite for `--shift`',
            'did you mean coco-o?',
        ),
        (['coco-o', 'data'], 'upernet', 'test: `--shift coco-o` with a segmentor', 'is for'),
        (
            ['coco-o', 'data', '--out', 'all.pkl'],
            'mask_rcnn',
            'test: `--shift` with `--out`',
            '--out applies to a single data set; omit it, or omit --shift',
        ),
    ],
)
def test_options_that_do_not_fit(test, trials, nothing_written, refused, options, task, given, message):
    trial = trials[task]
    outcome = test(trial.config, 'weights.pth', '--shift', *options, *trial.arguments())
    refused('Configs and options', given, outcome, message)
    assert nothing_written()
