"""Records and locks of runs: complete files, one holder, and no duplicate submissions."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from evaluation.sweep.executors import LocalExecutor
from evaluation.sweep.items import Liveness, Start, claim, note_submitted, withdraw
from evaluation.sweep.launching import process_started
from evaluation.sweep.record import (
    Identity,
    Lock,
    Record,
    change_record,
    is_locked,
    is_process_of,
    own_process,
    read_record,
)
from evaluation.sweep.runs import Run
from evaluation.sweep.work import RUN_LOCK, RunTask
from evaluation.utils.errors import UserError

IDENTITY = Identity('c' * 64, 'd' * 64, seed=0, options=('--amp',))


@pytest.fixture
def run(tmp_path):
    return Run('swin/seed_0', RunTask(tmp_path / 'run', 'swin.py', IDENTITY, (), (), 'iter_8.pth'))


def sleeper(*code):
    """Start a process that is ready and then sleeps until it is killed."""
    text = '\n'.join([*code, 'print("ready", flush=True)', 'import time', 'time.sleep(60)'])
    process = subprocess.Popen([sys.executable, '-c', text], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'ready\n'
    return process


def end(process):
    process.kill()
    process.wait()
    process.stdout.close()


class TestLock:
    def test_one_holder(self, tmp_path):
        with Lock(tmp_path / 'lock') as first, Lock(tmp_path / 'lock') as second:
            assert first.acquire()
            assert not second.acquire()
            assert is_locked(tmp_path / 'lock')
            first.release()
            assert second.acquire()

    def test_check_writes_nothing(self, tmp_path):
        assert not is_locked(tmp_path / 'lock')
        assert not list(tmp_path.iterdir())

    def test_checks_do_not_affect_each_other(self, tmp_path):
        file = tmp_path / 'lock'
        file.touch()
        imports = 'from pathlib import Path; from evaluation.sweep.record import is_locked'
        loop = f'while True: is_locked(Path({str(file)!r}))'
        process = sleeper(imports, 'print("ready", flush=True)', loop)
        try:
            assert not any(is_locked(file) for _ in range(20_000))
        finally:
            end(process)

    def test_lock_ends_when_its_process_is_killed(self, tmp_path):
        file = tmp_path / 'lock'
        process = sleeper(f'import fcntl; f = open({str(file)!r}, "w"); fcntl.flock(f, fcntl.LOCK_EX)')
        assert is_locked(file)
        end(process)
        assert not is_locked(file)

    def test_child_process_keeps_the_lock(self, tmp_path):
        with Lock(tmp_path / 'lock') as lock:
            lock.acquire()
            child = subprocess.Popen(['sleep', '60'], pass_fds=[lock.descriptor])
        assert is_locked(tmp_path / 'lock')
        child.kill()
        child.wait()
        assert not is_locked(tmp_path / 'lock')


class TestRecord:
    def test_round_trip(self, tmp_path):
        record = Record(IDENTITY, 'running', 2, 'token', 'local', devices=('2', '3'), pid=7)
        change_record(tmp_path, lambda before: record)
        assert read_record(tmp_path) == record

    def test_missing_record(self, tmp_path):
        assert read_record(tmp_path) is None
        change_record(tmp_path / 'new', lambda before: before)
        assert read_record(tmp_path / 'new') is None

    @pytest.mark.parametrize('text', ['', '{', '[]', '{"schema_version": 1}', '{"schema_version": 9}'])
    def test_malformed_record_is_reported(self, tmp_path, text):
        (tmp_path / 'sweep.json').write_text(text)
        with pytest.raises(UserError, match=r'sweep\.json .*give another --work-dir'):
            read_record(tmp_path)

    def test_process_is_identified_by_its_start(self):
        process = sleeper()
        try:
            pid = process.pid
            facts = {**own_process(), 'pid': pid, 'process_started': process_started(pid)}
            ours = Record(IDENTITY, 'running', 1, 't', 'local', **facts)
            assert is_process_of(ours)
            # The id has been reused by another process.
            facts['process_started'] -= 1
            assert not is_process_of(Record(IDENTITY, 'running', 1, 't', 'local', **facts))
        finally:
            end(process)
        assert not is_process_of(ours)

    def test_zombie_process(self):
        process = subprocess.Popen(['true'])
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process_started(process.pid) is None
        process.wait()
        # It ended before its start could be noted.
        facts = {**own_process(), 'pid': process.pid, 'process_started': None}
        assert not is_process_of(Record(IDENTITY, 'queued', 1, 't', 'local', **facts))


class TestClaim:
    def test_no_two_commands_claim_a_run(self, run):
        first, second = Start(run, 1, None), Start(run, 1, None)
        assert claim(first, 'local')
        assert claim(second, 'local') is None
        # With the current record of the first attempt, the next one can be started, once.
        seen = read_record(run.task.folder)
        assert claim(Start(run, 2, seen), 'slurm')
        assert claim(Start(run, 2, seen), 'slurm') is None
        assert read_record(run.task.folder).attempt == 2

    def test_facts_noted_by_the_job_are_kept(self, run):
        ours = claim(Start(run, 1, None), 'local', devices=('1',))
        note_submitted(ours, job='12', pid=5)
        assert read_record(run.task.folder).job == '12'
        change_record(run.task.folder, lambda record: Record(**{**vars(record), 'state': 'running'}))
        note_submitted(ours, job='13')
        withdraw(ours, 'refused')
        record = read_record(run.task.folder)
        assert (record.job, record.state, record.devices) == ('12', 'running', ('1',))


class TestLiveness:
    def test_by_the_lock(self, run):
        with Lock(run.task.folder / RUN_LOCK) as lock:
            lock.acquire()
            assert Liveness().is_alive(run.task.folder, None)
        assert not Liveness().is_alive(run.task.folder, None)

    def test_by_the_process_until_it_has_the_lock(self, run):
        record = Record(IDENTITY, 'queued', 1, 't', 'local', **own_process())
        assert Liveness().is_alive(run.task.folder, record)
        ended = Record(**{**vars(record), 'state': 'interrupted'})
        assert not Liveness().is_alive(run.task.folder, ended)

    def test_job_stopped_before_it_began(self, run, tmp_path):
        record = Record(
            IDENTITY, 'queued', 1, 't', 'local', **{**own_process(), 'process_started': None}
        )
        change_record(run.task.folder, lambda _: record)
        said = LocalExecutor(tmp_path, [], Liveness()).interrupt([run])
        assert said == '1 running jobs were stopped'
        assert read_record(run.task.folder).state == 'interrupted'

    def test_slurm_is_not_installed(self, run, monkeypatch):
        monkeypatch.setenv('PATH', '/nowhere')
        record = Record(IDENTITY, 'queued', 1, 't', 'slurm', job='12_0')
        with pytest.raises(UserError, match='squeue was not found'):
            Liveness().is_alive(run.task.folder, record)

    def test_slurm(self, run, monkeypatch, tmp_path):
        program = tmp_path / 'squeue'
        program.write_text('#!/bin/sh\necho 12_0\necho 14\n')
        program.chmod(0o755)
        monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
        record = Record(IDENTITY, 'running', 1, 't', 'slurm')
        alive = {
            job: Liveness().is_alive(run.task.folder, replace(record, job=job))
            for job in ('12_0', '12_1', '14', None)
        }
        assert alive == {'12_0': True, '12_1': False, '14': True, None: False}
