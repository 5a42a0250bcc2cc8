"""The ranking of a report matches `tools/rank.py`, and needs enough contestants and columns."""

import json

import numpy as np
import pytest

from evaluation.report.image_evidence import weigh
from evaluation.report.reported_runs import Problems, gather_runs
from evaluation.results.reading import load_results
from evaluation.statistics.comparison import uncertainties
from evaluation.statistics.ranking import rank
from evaluation.statistics.ranking_columns import contest_of, finished, gather
from evaluation.tables.ranking_tables import ranking_json
from tests.evaluation.metrics.problems import guesses, write_result

RESAMPLES = 200
NAMES = ('dcn_tiny', 'halo_tiny', 'pvt_tiny')


def write_runs(folder, names=NAMES, starts=('scratch', 'released'), **changes):
    """Write classifiers; from the second start, the order of the contestants is opposite."""
    random = np.random.default_rng(0)
    for number, start in enumerate(starts):
        for place, name in enumerate(names):
            better = 1 + (place if number else len(names) - place)
            answers = random.permutation(400) < 80 * better
            entry = {'file': None, 'sha256': None, 'weights_sha256': f'{start} {name}'}
            run = folder / f'{start}_{name}'
            write_result(run, guesses(answers), name, checkpoint=entry, initialization=start, **changes)


@pytest.fixture
def found(tmp_path):
    """Return the ranking of the results below a folder, and the problems."""

    def found():
        problems = Problems()
        ranking = weigh(gather_runs(load_results([tmp_path])), RESAMPLES, problems).ranking
        return ranking, problems.messages

    return found


def test_matches_the_command(tmp_path, found):
    write_runs(tmp_path)
    ranking, problems = found()
    assert problems == []
    contest = contest_of(gather(finished(load_results([tmp_path]))))
    truth = ranking_json(rank(contest, uncertainties(contest.results, RESAMPLES)))
    for name in ('contestants', 'pairs', 'sentences'):
        assert ranking[name] == truth[name]
    assert ranking['pairs'][0]['tau_b'] == -1
    first = ranking['columns'][0]
    assert first['rank_low'] == truth['columns'][0]['rank_low']
    order = {name: rank for name, rank in zip(ranking['contestants'], first['places'], strict=True)}
    assert order == {'dcn_tiny': 1, 'halo_tiny': 2, 'pvt_tiny': 3}
    # All three pairs reverse from the first column to the second.
    assert ranking['turning'] == [[0, 0], [1, 0], [2, 0]]
    json.dumps(ranking, allow_nan=False)


@pytest.mark.parametrize('changes', [{'names': NAMES[:2]}, {'starts': ('scratch',)}])
def test_is_omitted_with_few_contestants_or_columns(tmp_path, found, changes):
    write_runs(tmp_path, **changes)
    assert found() == (None, [])


def test_reason_why_results_cannot_be_ranked(tmp_path, found):
    write_runs(tmp_path)
    write_runs(tmp_path / 'other', config={'name': 'other', 'sha256': 'c1', 'text': ''})
    ranking, (problem,) = found()
    assert ranking is None
    assert problem.startswith('no ranking: ')
    assert 'different experiments of dcn_tiny' in problem
