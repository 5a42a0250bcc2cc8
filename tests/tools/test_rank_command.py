"""`tools/rank.py`: output, chart and error messages."""

import json

import numpy as np
import pytest

from tests.evaluation.metrics.problems import guesses, write_result

KIND = 'Tables and other commands'
NAMES = ('dcn_tiny', 'halo_tiny', 'pvt_tiny', 'swin_tiny')
IMAGES = 300


def classifiers(root, start, right, data='d0'):
    """Write classifiers that are right on so many of 300 images, in a random order for each."""
    random = np.random.default_rng(0)
    for name, count in zip(NAMES, right, strict=True):
        answers = random.permutation(IMAGES) < count
        folder = root / start / name
        changes = {'initialization': start, 'data': {'sha256': data}}
        entry = {'file': None, 'sha256': None, 'weights_sha256': f'{start} {name}'}
        write_result(folder, guesses(answers), name, checkpoint=entry, **changes)


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp('runs')
    classifiers(root, 'scratch', (270, 200, 130, 60))
    classifiers(root, 'released', (60, 200, 130, 270))
    return root


def test_text_and_chart(commands, runs, tmp_path):
    done = commands.succeed('rank', runs, '--resamples', '200', '--plot', tmp_path / 'ranks.png')
    assert '### Ranks' in done.stdout
    assert 'dcn_tiny is better than swin_tiny in A (90.0 and 20.0) and worse in B' in done.stdout
    assert '| A and B |' in done.stdout
    assert (tmp_path / 'ranks.png').read_bytes().startswith(b'\x89PNG')


def test_the_same_results_give_the_same_json(commands, runs, tmp_path):
    for name in ('one', 'other'):
        arguments = ['--resamples', '200', '--format', 'json', '--output', tmp_path / name]
        assert commands.succeed('rank', runs, *arguments).stdout == ''
    assert (tmp_path / 'one').read_text() == (tmp_path / 'other').read_text()
    found = json.loads((tmp_path / 'one').read_text())
    # One of the six pairs keeps its order: halo and pvt.
    assert found['pairs'][0]['tau_b'] == pytest.approx((1 - 5) / 6)
    assert [each['images'] for each in found['columns']] == [IMAGES, IMAGES]


class TestRefused:
    def test_results(self, commands, refused, runs, tmp_path):
        many = ['--resamples', 1_000_000]
        outcome = commands('rank', runs / 'scratch/dcn_tiny', runs / 'scratch/pvt_tiny', *many)
        refused(KIND, 'rank: fewer than three contestants', outcome, 'a ranking needs 3')
        for number, name in enumerate(NAMES):
            answers = np.arange(IMAGES) < 100 + number
            data = {'sha256': f'd{number // 2}'}
            write_result(tmp_path / name, guesses(answers), name, data=data)
        outcome = commands('rank', tmp_path, *many)
        refused(KIND, 'rank: results of different truth', outcome, 'different annotations')

    def test_options(self, commands, refused, runs, tmp_path):
        outcome = commands('rank', runs, '--metric', 'top')
        refused(
            KIND, 'rank: an unknown `--metric`', outcome, "--metric 'top': no result has this metric"
        )
        outcome = commands('rank', runs, '--plot', tmp_path / 'ranks.pdf')
        refused(KIND, 'rank: `--plot` of a different format', outcome, 'ends with .png')
        same = tmp_path / 'ranks.png'
        outcome = commands('rank', runs, '--plot', same, '--output', same)
        refused(KIND, 'rank: one file for `--plot` and `--output`', outcome, 'give two files')
        assert not (tmp_path / 'ranks.pdf').exists()
        assert not same.exists()
