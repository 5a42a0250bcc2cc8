"""Results of all kinds of analyses are found, and their values read."""

import json

import numpy as np
import pytest

from evaluation.analysis.receptive_field import result as receptive_field
from evaluation.analysis.results import read_figures, result_files
from evaluation.analysis.robustness.result import write_profile
from evaluation.utils.errors import UserError
from tests.evaluation.analysis.robustness.profiles import profile

WEIGHTS = 'f' * 64


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / 'upernet' / 'analysis'
    folder.mkdir(parents=True)
    found = profile()
    found.facts['checkpoint']['weights_sha256'] = WEIGHTS
    write_profile(found, folder / 'robustness.json')
    mean = np.zeros((9, 9))
    mean[4, 4] = 1
    checkpoint = {'file': 'iter_8.pth', 'weights_sha256': WEIGHTS}
    images = {'folder': 'x', 'count': 2, 'sha256': 'abc'}
    target = receptive_field.TargetResult('stage4', (1, 1), 2, mean)
    receptive_field.write_result(
        receptive_field.ReceptiveFieldResult(
            'upernet', {}, checkpoint, images, 9, 1, None, 'cpu', [target]
        ),
        folder / 'erf.json',
    )
    return tmp_path


def test_figures_of_each_analysis(folder):
    files = result_files([folder, folder / 'upernet'])
    assert [file.name for file in files] == ['erf.json', 'robustness.json']
    erf, robustness = map(read_figures, files)
    assert (erf.kind, robustness.kind) == ('effective receptive field', 'robustness')
    assert erf.weights_sha256 == robustness.weights_sha256 == WEIGHTS
    assert erf.figures == {'ERF stage4': 100 / 81}
    assert {*robustness.figures} == {'FGSM 1', 'PGD 1', 'mPC', 'rPC'}
    assert 'half of the contributions to the center of stage4' in erf.note
    assert erf.created.tzinfo


@pytest.mark.parametrize('change', [{'columns': {}}, {'created': 'soon'}, {'analysis': 3}])
def test_corrupt_result_is_refused(folder, change):
    file = result_files([folder])[0]
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(UserError, match=r'erf\.json is not a complete result of an analysis; rep'):
        read_figures(file)
