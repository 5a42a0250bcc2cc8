"""`--time-shares` of training and testing."""

import pytest

from evaluation.engine.hooks.time_shares import PHASES
from tests.commands import read_results

STEP = {'data', 'preprocessing', 'backbone', 'heads', 'hooks'}
IN_TRAINING = STEP | {'losses', 'backward', 'optimizer'}
IN_EVALUATION = STEP | {'post-processing', 'metric', 'evaluation'}


def assert_measured(trial, described, phases, iterations):
    necks = {'neck'} if trial.task == 'mask_rcnn' else set()
    assert set(described['seconds']) == phases | necks
    assert list(described['seconds']) == [phase for phase in PHASES if phase in described['seconds']]
    assert min(described['seconds'].values()) > 0
    assert sum(described['shares'].values()) == pytest.approx(1)
    assert described['iterations'] == iterations


class TestTraining:
    def test_is_measured_without_affecting_the_training(self, commands, trial, trained, tmp_path):
        arguments = ['--time-shares', '--work-dir', tmp_path, *trial.arguments()]
        commands.succeed('train', trial.config, *arguments)
        plain, results = read_results(trained), read_results(tmp_path)
        assert len(results) == len(plain) == 2
        for step, one, other in zip((2, 4), results, plain, strict=True):
            assert one['checkpoint']['weights_sha256'] == other['checkpoint']['weights_sha256']
            assert one['metrics'] == other['metrics']
            assert other['time_shares'] is None
            assert set(one['time_shares']) == {'train', 'val'}
            assert_measured(trial, one['time_shares']['train'], IN_TRAINING, step)
            assert_measured(trial, one['time_shares']['val'], IN_EVALUATION, 7)
            passed = sum(sum(it['seconds'].values()) for it in one['time_shares'].values())
            assert passed <= one['wall_time_seconds'] + 0.1
        (log,) = tmp_path.glob('*/*.log')
        text = log.read_text()
        assert '### Time of 4 steps (train)' in text
        assert '### Time of 7 steps (val)' in text


class TestTesting:
    def test_is_measured(self, commands, trial, trained, tmp_path):
        checkpoint = trained / f'{trial.end}.pth'
        arguments = ['--time-shares', '--work-dir', tmp_path, *trial.arguments()]
        commands.succeed('test', trial.config, checkpoint, *arguments)
        (result,) = read_results(tmp_path)
        (loop,) = result['time_shares'].items()
        assert loop[0] == 'test'
        assert_measured(trial, loop[1], IN_EVALUATION, 7)
        assert result['metrics'] == pytest.approx(read_results(trained)[-1]['metrics'], abs=1e-9)
