"""`tools/compare.py` and `tools/table.py --ci`: output and error messages."""

import json
import re
import shutil

import numpy as np
import pytest

from evaluation.results.reading import read_result
from evaluation.statistics.result_metrics import headline_metrics, load_evidence
from tests.evaluation.metrics.problems import guesses, instance_evidence, write_result

KIND = 'Tables and other commands'


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Work dirs of two detectors and of a classifier with three seeds."""
    root = tmp_path_factory.mktemp('runs')
    for number, name in enumerate(('dcn_tiny', 'swin_tiny')):
        entry = {'file': None, 'sha256': None, 'weights_sha256': name}
        write_result(root / name / 'one', instance_evidence(20, detector=number), name, checkpoint=entry)
    for seed in range(3):
        right = np.arange(100) < 60 + 5 * seed
        entry = {'file': None, 'sha256': None, 'weights_sha256': f'h{seed}'}
        folder = root / 'halo_tiny' / f'seed_{seed}'
        write_result(folder, guesses(right), 'halo_tiny', seed=seed, checkpoint=entry)
    entry = {'file': None, 'sha256': None, 'weights_sha256': 'p'}
    write_result(root / 'pvt_tiny', guesses(np.arange(100) < 50), 'pvt_tiny', checkpoint=entry)
    return root


class TestCompare:
    def test_two_detectors(self, commands, runs):
        done = commands('compare', runs / 'dcn_tiny', runs / 'swin_tiny', '--resamples', '200')
        assert done.status == 0, done.stderr
        assert '### dcn_tiny and swin_tiny' in done.stdout
        assert re.search(r'\| box AP +\| +\d+\.\d \(\d+\.\d to \d+\.\d\) \|', done.stdout)
        assert 'paired bootstrap of 20 images' in done.stdout
        assert '### Cost of errors' in done.stdout
        assert 'One seed per model' in done.stdout

    def test_output_is_reproducible(self, commands, runs, tmp_path):
        arguments = [runs / 'dcn_tiny', runs / 'swin_tiny', '--resamples', '200', '--format', 'json']
        for name in ('one', 'other'):
            done = commands('compare', *arguments, '--output', tmp_path / name)
            assert (done.status, done.stdout) == (0, '')
        assert (tmp_path / 'one').read_text() == (tmp_path / 'other').read_text()
        content = json.loads((tmp_path / 'one').read_text())
        assert {each['metric'] for each in content} >= {'box_AP', 'mask_AP75'}
        assert content[0]['resamples'] == 200
        assert 'dcn_tiny' in content[0]['sentence']

    def test_seeds_of_a_work_dir_are_one_model(self, commands, runs):
        single = runs / 'pvt_tiny/result.json'
        done = commands('compare', runs / 'halo_tiny', single, '--resamples', '200')
        assert done.status == 0, done.stderr
        assert '65.0 ± 5.0 (' in done.stdout
        assert 'means over seeds' in done.stdout

    def test_the_same_weights_with_and_without_augmentation(self, commands, tmp_path):
        entry = {'file': None, 'sha256': None, 'weights_sha256': 'w'}
        for name, count in (('plain', 50), ('augmented', 60)):
            write_result(
                tmp_path / name,
                guesses(np.arange(100) < count),
                'halo_tiny',
                checkpoint=entry,
                test_time_augmentation=name == 'augmented',
            )
        done = commands('compare', tmp_path / 'plain', tmp_path / 'augmented')
        assert done.status == 0, done.stderr
        assert 'halo_tiny (with TTA) has 10.0 points higher' in done.stdout


class TestTrainedModel:
    def test_evidence_gives_the_figures_of_every_result(self, trained):
        files = [*trained.rglob('result.json')]
        assert len(files) == 2
        for file in files:
            result = read_result(file)
            evidence = load_evidence(result)
            figures = headline_metrics(result.task, evidence)(np.ones(result.images, np.int64))
            for name, value in figures.items():
                told = result.metrics[name]
                assert value == pytest.approx(np.nan if told is None else told, nan_ok=True)
            assert result.config_sha256
            assert result.batch_size == 4
            assert (result.mixed_precision, result.learning_rate_scaled) == (False, False)
            assert result.data_sha256 != result.training_data_sha256

    def test_halfway_and_end(self, commands, trial, trained):
        first, last = (next(trained.rglob(f'{n}/result.json')) for n in (trial.halfway, trial.end))
        done = commands.succeed('compare', last, first, '--resamples', '200')
        assert 'paired bootstrap' in done.stdout or 'is undefined on these images' in done.stdout


class TestTable:
    def test_intervals_and_ties(self, commands, runs):
        done = commands('table', runs / 'dcn_tiny', runs / 'swin_tiny', '--ci', '--resamples', '200')
        assert done.status == 0, done.stderr
        assert re.search(r'\| dcn_tiny .* \d+\.\d \(\d+\.\d to \d+\.\d\)', done.stdout)
        assert 'expected on 20 images of this kind, from 200 resamples' in done.stdout
        assert 'too few' not in done.stdout

    def test_seeds_are_averaged_in_a_separate_table(self, commands, runs):
        done = commands('table', runs / 'halo_tiny')
        assert '### Classification on' in done.stdout
        assert 'over seeds' in done.stdout
        assert '65.0 ± 5.0' in done.stdout
        assert '0, 1, 2' in done.stdout

    def test_too_few_images_have_no_interval(self, commands, tmp_path):
        write_result(tmp_path / 'a', instance_evidence(1), 'halo_tiny')
        for arguments in ([], ['--format', 'csv']):
            done = commands('table', tmp_path, '--ci', '--resamples', '200', *arguments)
            assert done.status == 0, done.stderr
            assert 'nan' not in done.stdout.lower()
        done = commands('table', tmp_path, '--ci', '--resamples', '200')
        assert ' (–) |' in done.stdout
        assert '(–): too few images.' in done.stdout

    def test_csv_has_both_ends(self, commands, runs):
        done = commands('table', runs / 'halo_tiny', '--ci', '--resamples', '200', '--format', 'csv')
        assert done.status == 0, done.stderr
        assert 'top1_low,top1_high' in done.stdout.splitlines()[0]


class TestRefused:
    def test_places(self, commands, refused, runs):
        outcome = commands('compare', 'nowhere', runs / 'dcn_tiny')
        refused(KIND, 'compare: a folder that does not exist', outcome, 'nowhere is not a folder')
        outcome = commands('compare', runs / 'dcn_tiny', runs / 'halo_tiny/seed_0')
        refused(KIND, 'compare: a detector and a classifier', outcome, 'of the same task')

    def test_results_of_several_experiments(self, commands, refused, runs, tmp_path):
        for name in ('dcn_tiny', 'swin_tiny'):
            shutil.copytree(runs / name, tmp_path / 'both' / name)
        outcome = commands('compare', tmp_path / 'both', runs / 'dcn_tiny')
        refused(KIND, 'compare: a folder with several experiments', outcome, 'name the folder of one')

    def test_experiments_with_the_same_name(self, commands, runs, tmp_path):
        """A different config of the same name, or a test on fewer images, does not replace a run."""
        entry = {'file': None, 'sha256': None, 'weights_sha256': 'q'}
        late = {'created': '2027-01-01T00:00:00+00:00', 'checkpoint': entry}
        write_result(tmp_path / 'few/all', guesses(np.arange(100) < 60), 'halo_tiny')
        write_result(tmp_path / 'few/five', guesses(np.arange(5) < 5), 'halo_tiny', **late)
        write_result(tmp_path / 'other/a', guesses(np.arange(100) < 60), 'halo_tiny')
        late['config'] = {'name': 'imagenet_halo_tiny', 'sha256': 'c1', 'text': ''}
        write_result(tmp_path / 'other/b', guesses(np.arange(100) < 90), 'halo_tiny', **late)
        for name in ('few', 'other'):
            outcome = commands('compare', tmp_path / name, runs / 'pvt_tiny')
            assert (outcome.status, outcome.stdout) == (2, '')
            assert 'holds 2 experiments' in outcome.stderr
        done = commands('table', tmp_path / 'few')
        assert '| 100 ' in done.stdout or '|    100 ' in done.stdout
        assert done.stderr == ''

    def test_no_evidence(self, commands, refused, runs, tmp_path):
        shutil.copytree(runs / 'dcn_tiny', tmp_path / 'old')
        file = tmp_path / 'old/one/result.json'
        file.write_text(json.dumps(json.loads(file.read_text()) | {'evidence': None}))
        outcome = commands('compare', tmp_path / 'old', runs / 'swin_tiny')
        refused(KIND, 'compare: a result without per-image records', outcome, 'no per-image records')
        outcome = commands('table', tmp_path / 'old', '--ci')
        refused(
            KIND,
            'table: `--ci` with a result without per-image records',
            outcome,
            'no per-image records',
        )

    def test_evidence_of_a_different_evaluation(self, commands, refused, runs, tmp_path):
        shutil.copytree(runs / 'dcn_tiny', tmp_path / 'mixed')
        shutil.copy(runs / 'swin_tiny/one/evidence.npz', tmp_path / 'mixed/one/evidence.npz')
        outcome = commands('compare', tmp_path / 'mixed', runs / 'swin_tiny')
        refused(
            KIND,
            'compare: per-image records of a different evaluation',
            outcome,
            'does not match its digest',
        )

    def test_different_classes(self, commands, refused, runs, tmp_path):
        write_result(tmp_path / 'four', instance_evidence(20, classes=4, detector=1), 'swin_tiny')
        outcome = commands('compare', runs / 'dcn_tiny', tmp_path / 'four')
        refused(KIND, 'compare: models with different classes', outcome, 'different classes', 'same')

    def test_the_same_weights_twice(self, commands, refused, runs):
        outcome = commands('compare', runs / 'dcn_tiny', runs / 'dcn_tiny/one/result.json')
        refused(KIND, 'compare: the same model twice', outcome, 'choose two different models')

    def test_before_anything_is_resampled(self, commands, refused, runs, tmp_path):
        pair = [runs / 'dcn_tiny', runs / 'swin_tiny']
        # With this many resamples, the command would not end in time.
        many = ['--resamples', 1_000_000]
        outcome = commands('compare', *pair, *many, '--output', tmp_path / 'missing/a.md')
        refused(
            KIND, 'compare: `--output` in a folder that does not exist', outcome, 'in an existing folder'
        )
        outcome = commands('table', *pair, '--ci', *many, '--output', tmp_path / 'missing/a.md')
        refused(
            KIND, 'table: `--output` in a folder that does not exist', outcome, 'in an existing folder'
        )
        places = [runs / 'dcn_tiny', runs / 'pvt_tiny']
        outcome = commands('table', *places, '--ci', *many, '--format', 'csv')
        refused(KIND, 'table: CSV with several tasks', outcome, 'choose one with --task')

    def test_file_of_a_different_task(self, commands, refused, runs):
        files = [runs / name / 'one/result.json' for name in ('dcn_tiny', 'swin_tiny')]
        outcome = commands('compare', *files, '--task', 'upernet')
        refused(
            KIND,
            'compare: a file that does not match `--task`',
            outcome,
            'found only instance_segmentation',
        )

    def test_numbers(self, commands, refused, runs):
        pair = [runs / 'dcn_tiny', runs / 'swin_tiny']
        outcome = commands('compare', *pair, '--resamples', 20)
        refused(KIND, 'compare: too few `--resamples`', outcome, 'give 200 to 1000000')
        outcome = commands('compare', *pair, '--seed', -1)
        refused(KIND, 'compare: a negative `--seed`', outcome, "'-1' is not a whole number from 0")
