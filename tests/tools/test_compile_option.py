"""`--compile` of training and testing."""

import re

import pytest
import torch

from tests.commands import read_results


def graphs(log):
    (count,) = re.findall(r'torch.compile \(aot_eager\): (\d+) graphs', log)
    return int(count)


def test_training_and_test(commands, trial, trained, tmp_path):
    """Without the code generator, which rounds differently, compiled results equal plain ones."""
    arguments = ['--compile', 'aot_eager', *trial.arguments()]
    commands.succeed('train', trial.config, *arguments, '--work-dir', tmp_path / 'train')
    results, plain = read_results(tmp_path / 'train'), read_results(trained)
    for one, other in zip(results, plain, strict=True):
        assert one['compiled'] is True
        assert other['compiled'] is False
        assert one['metrics'] == pytest.approx(other['metrics'], abs=5)
    checkpoint = tmp_path / 'train' / f'{trial.end}.pth'
    names = torch.load(checkpoint, weights_only=False)['state_dict'].keys()
    assert names == torch.load(trained / f'{trial.end}.pth', weights_only=False)['state_dict'].keys()

    commands.succeed('test', trial.config, checkpoint, *arguments, '--work-dir', tmp_path / 'test')
    (tested,) = read_results(tmp_path / 'test')
    assert tested['compiled'] is True
    assert tested['metrics'] == pytest.approx(results[-1]['metrics'], abs=1e-3)
    (log,) = (tmp_path / 'test').glob('*/*.log')
    # At most six parts, each compiled for one size and then for all other sizes.
    assert 1 <= graphs(log.read_text()) <= 12
    assert 'times as fast' in log.read_text()


def test_averaged_weights_are_tested(commands, trials, tmp_path):
    """The averaged copy must not run the weights of the original model."""
    trial = trials['upernet']
    found = []
    for name, options in (('plain', []), ('compiled', ['--compile', 'eager'])):
        folder = tmp_path / name
        arguments = [*options, '--work-dir', folder, *trial.arguments()]
        commands.succeed('train', trial.config, *arguments, 'default_hooks.ema.type=EMAHook')
        found.append([result['metrics'] for result in read_results(folder)])
    assert found[0] == [pytest.approx(metrics, abs=1e-3) for metrics in found[1]]


def test_unknown_backend(train, trials, refused):
    trial = trials['upernet']
    outcome = train(trial.config, '--compile', 'fastest', *trial.arguments())
    given = '`--compile` with an unknown backend'
    refused('Tables and other commands', given, outcome, '--compile fastest: choose from')
