"""Decisions about a run for every state of its folder."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.sweep.decisions import (
    FINISHED,
    NEW,
    REFUSED,
    RESUME,
    RETRY,
    RUNS,
    Findings,
    decide,
    look,
)
from evaluation.sweep.record import Identity, Record

IDENTITY = Identity(
    'c' * 64,
    'd' * 64,
    seed=1,
    training_data_sha256='e' * 64,
    start='scratch',
    batch_size=4,
)
FOLDER = Path('root/name/seed_1')


def record(state, identity=IDENTITY, **more):
    return Record(identity, state, attempt=1, token='t', executor='local', job='7', **more)


def result(**changes):
    """Return the fields of a final `result.json` that are read."""
    return {
        'config': {'sha256': 'c' * 64},
        'data': {'sha256': 'd' * 64},
        'training_data': {'sha256': 'e' * 64},
        'seed': 1,
        'initialization': 'scratch',
        'batch_size': 4,
        'test_time_augmentation': False,
        'epoch': None,
        'max_epochs': None,
        'iteration': 8,
        'max_iterations': 8,
        'checkpoint': {'file': 'iter_8.pth', 'sha256': 'f' * 64},
        **changes,
    }


@pytest.fixture
def folder(tmp_path):
    """Work dir of a finished training of 8 iterations."""
    (tmp_path / 'iter_8.pth').touch()
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/iter_8.pth')
    write_result(tmp_path, 'a/iter_8', result())
    return tmp_path


def write_result(folder, place, content):
    file = folder / place / 'result.json'
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


CHECKPOINT = Path('iter_4.pth')


class TestDecide:
    @pytest.mark.parametrize(
        ('state', 'found', 'is_alive', 'action', 'attempts'),
        [
            (None, {}, False, NEW, 2),
            (None, {'checkpoint': CHECKPOINT}, False, REFUSED, 0),
            (None, {'others': (Path('result.json'),)}, False, REFUSED, 0),
            (None, {'result': Path('result.json')}, False, FINISHED, 0),
            ('queued', {}, True, RUNS, 2),
            ('running', {'checkpoint': CHECKPOINT}, True, RUNS, 2),
            ('queued', {}, False, NEW, 2),
            ('running', {}, False, NEW, 2),
            ('running', {'checkpoint': CHECKPOINT}, False, RESUME, 2),
            ('interrupted', {'checkpoint': CHECKPOINT}, False, RESUME, 2),
            ('interrupted', {'checkpoint': CHECKPOINT, 'is_trained': True}, False, RESUME, 2),
            ('failed', {'checkpoint': CHECKPOINT}, False, RETRY, 1),
            ('failed', {'result': Path('result.json')}, False, FINISHED, 0),
            ('done', {'result': Path('result.json')}, False, FINISHED, 0),
            ('done', {}, False, RESUME, 2),
        ],
    )
    def test_every_state(self, state, found, is_alive, action, attempts):
        last = record(state) if state else None
        decision = decide(FOLDER, IDENTITY, last, Findings(**found), is_alive)
        assert (decision.action, decision.attempts) == (action, attempts)

    @pytest.mark.parametrize(
        ('field', 'value', 'words'),
        [
            ('config_sha256', '0' * 64, 'the config (00000000 there, cccccccc here)'),
            ('data_sha256', '0' * 64, 'the evaluation data (00000000 there, dddddddd here)'),
            ('training_data_sha256', '0' * 64, 'the training data (00000000 there, eeeeeeee here)'),
            ('start', 'swin.pth', 'the initial weights (swin.pth there, scratch here)'),
            ('batch_size', 8, 'the batch size (8 there, 4 here)'),
            ('options', ('--amp',), 'the options (--amp there, none here)'),
        ],
    )
    @pytest.mark.parametrize('is_alive', [False, True])
    def test_different_run_in_the_folder_is_refused(self, field, value, words, is_alive):
        last = record('done', replace(IDENTITY, **{field: value}))
        decision = decide(FOLDER, IDENTITY, last, Findings(result=Path('r')), is_alive)
        assert decision.action == REFUSED
        assert words in decision.reason
        assert str(FOLDER) in decision.reason
        assert decision.reason.endswith('give another --work-dir')


class TestLook:
    def test_finished(self, folder):
        found = look(folder, IDENTITY, 'iter_8.pth')
        assert found.result == folder / 'a/iter_8/result.json'
        assert found.is_trained
        assert found.others == ()

    @pytest.mark.parametrize(
        'changes',
        [
            {'config': {'sha256': '0' * 64}},
            {'config': {}},
            {'data': {'sha256': None}},
            {'training_data': {'sha256': '0' * 64}},
            {'seed': 2},
            {'initialization': 'swin.pth'},
            {'batch_size': 8},
            {'test_time_augmentation': True},
        ],
    )
    def test_result_of_a_different_run(self, folder, changes):
        file = write_result(folder, 'a/iter_8', result(**changes))
        found = look(folder, IDENTITY, 'iter_8.pth')
        assert found.result is None
        assert found.others == (file,)

    def test_intermediate_result(self, folder):
        write_result(folder, 'a/iter_8', result(iteration=4))
        found = look(folder, IDENTITY, 'iter_8.pth')
        assert (found.result, found.is_trained, found.others) == (None, True, ())

    def test_epochs_count_if_the_training_is_by_epochs(self, folder):
        (folder / 'epoch_2.pth').touch()
        content = result(epoch=1, max_epochs=2, iteration=8, max_iterations=8)
        write_result(folder, 'a/iter_8', content)
        assert look(folder, IDENTITY, 'epoch_2.pth').result is None
        write_result(folder, 'a/iter_8', {**content, 'epoch': 2})
        assert look(folder, IDENTITY, 'epoch_2.pth').result

    def test_run_without_its_checkpoint_is_not_finished(self, folder):
        (folder / 'iter_8.pth').unlink()
        found = look(folder, IDENTITY, 'iter_8.pth')
        assert (found.result, found.checkpoint, found.is_trained) == (None, None, False)

    @pytest.mark.parametrize('pointer', [None, '', '\0\0\0', '/elsewhere/iter_6.pth'])
    def test_checkpoint_is_found_with_any_last_checkpoint_after_a_crash(self, tmp_path, pointer):
        for steps in (2, 4):
            (tmp_path / f'iter_{steps}.pth').touch()
        if pointer is not None:
            (tmp_path / 'last_checkpoint').write_text(pointer)
        found = look(tmp_path, IDENTITY, 'iter_8.pth')
        assert found.checkpoint == tmp_path / 'iter_4.pth'
        assert decide(tmp_path, IDENTITY, None, found, is_alive=False).action == REFUSED
        assert decide(tmp_path, IDENTITY, record('running'), found, is_alive=False).action == RESUME

    @pytest.mark.parametrize('broken', ['', '{"config": ', '[]', '3'])
    def test_malformed_results_are_ignored(self, folder, broken):
        write_result(folder, 'a/iter_8', broken)
        assert look(folder, IDENTITY, 'iter_8.pth').result is None

    def test_initial_weights_are_compared_by_name(self, folder):
        write_result(folder, 'a/iter_8', result(initialization='some/where/swin.pth'))
        identity = replace(IDENTITY, start='swin.pth', start_sha256='a' * 64)
        assert look(folder, identity, 'iter_8.pth').result

    def test_result_of_a_test(self, folder):
        identity = Identity('c' * 64, 'd' * 64, checkpoint_sha256='f' * 64)
        assert look(folder, identity, None).result
        assert look(folder, replace(identity, checkpoint_sha256='0' * 64), None).result is None

    def test_missing_folder(self, tmp_path):
        assert look(tmp_path / 'nowhere', IDENTITY, 'iter_8.pth') == Findings()
