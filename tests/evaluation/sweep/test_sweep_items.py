"""State changes of active runs: done, retried, failed, resumed."""

from dataclasses import replace

import pytest

from evaluation.engine import experiment
from evaluation.sweep import display
from evaluation.sweep.decisions import NEW, REFUSED, RETRY, Decision
from evaluation.sweep.display import RunProgress
from evaluation.sweep.items import ACTIVE, LOST, WAITING, Item, Start, claim, observe, planned
from evaluation.sweep.record import (
    DONE,
    FAILED,
    INTERRUPTED,
    Identity,
    Record,
    change_record,
    read_record,
)
from evaluation.sweep.runs import Run
from evaluation.sweep.sweep import start
from evaluation.sweep.work import RunTask
from evaluation.utils.scalars import write_length
from tests.evaluation.sweep.test_sweep_decisions import result, write_result

IDENTITY = Identity('c' * 64, 'd' * 64, 1, 'e' * 64, 'scratch', None, 4)


class Jobs:
    """Replacement for `Liveness`."""

    def __init__(self, are_alive):
        self.are_alive = are_alive

    def is_alive(self, folder, record):
        return self.are_alive


@pytest.fixture
def item(tmp_path):
    """Run whose first attempt is active."""
    task = RunTask(tmp_path, 'swin.py', IDENTITY, (), (), 'iter_8.pth')
    return Item('swin/seed_1', Run('swin/seed_1', task), Decision(NEW, ''), ACTIVE, attempt=1)


def note(item, state, **more):
    record = Record(IDENTITY, state, item.attempt, 't', 'local', job='7', **more)
    change_record(item.run.task.folder, lambda _: record)


def look(item, are_alive=False, goes_on=True):
    observe(item, Jobs(are_alive), goes_on)
    return item.state


def test_step_and_time_left(item):
    folder = item.run.task.folder / '20260101_1'
    (folder / 'vis_data').mkdir(parents=True)
    (folder / 'vis_data/scalars.json').write_text('{"step": 31, "loss": 1, "time": 0.5}\n')
    assert display.progress_of(item.run) == RunProgress(31)
    write_length(folder, 231)
    assert display.progress_of(item.run) == RunProgress(31, 231, seconds_left=100.0)


@pytest.mark.parametrize('state', ['queued', 'running', 'interrupted'])
def test_run_is_active_while_its_job_is_alive(item, state):
    note(item, state)
    assert look(item, are_alive=True) == ACTIVE


def test_done(item):
    (item.run.task.folder / 'iter_8.pth').touch()
    write_result(item.run.task.folder, 'a', result())
    note(item, 'done')
    assert look(item, are_alive=True) == DONE


def test_failure_is_retried_once(item):
    note(item, 'failed', error='error: no')
    assert look(item) == WAITING
    assert item.start().attempt == 2
    item.state, item.attempt = ACTIVE, 2
    note(item, 'failed', error='error: no')
    assert look(item) == FAILED
    assert item.note == 'error: no'


@pytest.mark.parametrize('state', ['queued', 'running'])
def test_job_that_vanished_has_failed(item, state):
    note(item, state)
    assert look(item) == WAITING
    assert (read_record(item.run.task.folder).state, item.note) == ('failed', LOST)


def test_job_that_vanished_after_finishing_is_done(item):
    (item.run.task.folder / 'iter_8.pth').touch()
    write_result(item.run.task.folder, 'a', result())
    note(item, 'running')
    assert look(item) == DONE


@pytest.mark.parametrize(
    ('is_adopted', 'goes_on', 'state'),
    [(False, True, INTERRUPTED), (True, True, WAITING), (True, False, INTERRUPTED)],
)
def test_interrupted(item, is_adopted, goes_on, state):
    note(item, 'interrupted', error='asked to stop')
    item.is_adopted = is_adopted
    assert look(item, goes_on=goes_on) == state


def test_resumed_second_attempt_is_the_last(item):
    item.is_adopted, item.attempt = True, 2
    note(item, 'interrupted', error='asked to stop')
    assert look(item) == WAITING
    assert item.start().attempt == 2
    item.state, item.attempt = ACTIVE, item.start().attempt
    note(item, 'failed', error='error: no')
    assert look(item) == FAILED


def test_retry_by_a_later_command_is_the_last_attempt_for_all(item):
    note(item, 'failed', error='error: no')
    run = item.run
    retried = planned(run, Jobs(are_alive=False))
    assert (retried.decision.action, retried.state) == (RETRY, WAITING)
    assert claim(retried.start(), 'local')
    adopted = planned(run, Jobs(are_alive=True))
    assert (adopted.state, adopted.attempt) == (ACTIVE, 2)
    adopted_record = read_record(run.task.folder)
    change_record(run.task.folder, lambda _: replace(adopted_record, state='failed', error='error: no'))
    assert look(adopted) == FAILED


@pytest.mark.parametrize(('is_done', 'state'), [(False, REFUSED), (True, DONE)])
def test_folder_that_cannot_be_written(item, monkeypatch, is_done, state):
    if is_done:
        (item.run.task.folder / 'iter_8.pth').touch()
        write_result(item.run.task.folder, 'a', result())
    monkeypatch.setattr(experiment.os, 'access', lambda *_: False)
    found = planned(item.run, Jobs(are_alive=False))
    assert found.state == state
    assert 'is not writable' in found.note or is_done


class Commands:
    """Executor that is preceded by another command, which starts a run of a different config."""

    def start(self, waiting, active):
        (wanted,) = waiting
        another = replace(IDENTITY, config_sha256='0' * 64)
        record = Record(another, 'running', 1, 'another', 'local')
        change_record(wanted.run.task.folder, lambda _: record)
        return [ours for ours in [claim(wanted, 'local')] if ours]


def test_different_run_started_meanwhile_is_left_alone(item):
    item.state, item.attempt = WAITING, 0
    start([item], Commands())
    assert item.state == REFUSED
    assert 'differs in the config (00000000 there, cccccccc here)' in item.note
    record = read_record(item.run.task.folder)
    assert (record.token, record.state) == ('another', 'running')
    # It cannot be claimed even with the current record.
    assert claim(Start(item.run, 1, record), 'local') is None


class TestDisplay:
    def test_line(self, item):
        item.record = Record(
            IDENTITY, 'running', 1, 't', 'local', started='2026-01-01T00:00:00+00:00',
            ended='2026-01-01T00:01:05+00:00',
        )  # fmt: skip
        assert display.line(item) == 'swin/seed_1: running, 1:05 since the start'
        item.attempt = 2
        assert display.line(item).startswith('swin/seed_1: running again, ')

    def test_changes_are_printed_once(self, item, capsys):
        lines = display.Lines()
        for state in (WAITING, ACTIVE, ACTIVE, FAILED):
            item.state, item.note = state, 'error: no' if state == FAILED else None
            lines.show([item])
        assert capsys.readouterr().out == 'swin/seed_1: running\nswin/seed_1: failed, error: no\n'

    def test_report(self, item):
        failed = replace(item, state=FAILED, note='error: no', attempt=2)
        done = replace(item, state=DONE)
        lines = display.report([failed, done])
        assert lines[0] == '2 runs: 1 done, 1 failed'
        log = item.run.task.folder / 'output.log'
        assert lines[1:] == [f'failed: swin/seed_1: error: no (output: {log})']

    def test_short_table_shows_active_and_failed_runs_first(self, item):
        states = [DONE, WAITING, ACTIVE, DONE, FAILED]
        items = [replace(item, name=str(i), state=state) for i, state in enumerate(states)]
        assert [each.name for each in display.shown(items, 3)] == ['1', '2', '4']
        assert display.shown(items, 5) == items
