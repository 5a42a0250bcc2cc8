"""Jobs of the demonstration, with work that takes moments."""

import functools
import os
import re
import sys
import time

import pytest
import torch

from evaluation.demo import jobs as module
from evaluation.demo.jobs import Job, RemainingTime, run_command, run_jobs
from evaluation.utils.errors import UserError

# Progress of a training in its scalars: 5 iterations.
SCALARS = '{"step": 2, "lr": 0.1}\n{"step": 5, "lr": 0.1}\n{"step": 6, "l'


@pytest.fixture(autouse=True)
def _polled_often(monkeypatch):
    monkeypatch.setattr(module, 'POLL_SECONDS', 0.02)


def work(folder):
    print('this is work')
    (folder / 'threads').write_text(str(torch.get_num_threads()))
    (folder / 'running').touch()
    (folder / 'together').write_text(str(len(list(folder.parent.glob('*/running')))))
    time.sleep(0.3)
    (folder / 'running').unlink()
    (folder / 'done').touch()


def fail(folder):
    print('this is fail')
    print('reason to fail', file=sys.stderr)
    sys.exit(1)


def hang(folder):
    (folder / 'pid').write_text(str(os.getpid()))
    time.sleep(60)


def make(tmp_path, *tasks):
    folders = [tmp_path / 'runs' / str(place) for place in range(len(tasks))]
    return [
        Job(f'job {place}', functools.partial(task, folder), folder, seconds=10)
        for place, (task, folder) in enumerate(zip(tasks, folders, strict=True))
    ]


def is_alive(pid):
    # A process that has ended but was not waited for is listed too, as a zombie.
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False


class TestRunJobs:
    def test_jobs_before_a_failure_count_as_done(self, tmp_path):
        done = []
        with pytest.raises(UserError):
            run_jobs(make(tmp_path, work, fail), parallel=1, threads=1, on_done=done.append)
        assert [job.name for job in done] == ['job 0']

    def test_all_jobs_run_with_the_given_threads(self, tmp_path, capsys):
        todo = make(tmp_path, work, work, work)
        done = []
        run_jobs(todo, parallel=2, threads=3, on_done=done.append)
        assert sorted(job.name for job in done) == [job.name for job in todo]
        for job in todo:
            assert (job.folder / 'done').is_file()
            assert (job.folder / 'threads').read_text() == '3'
            assert (job.folder / 'output.log').read_text() == 'this is work\n'
        lines = capsys.readouterr().out.splitlines()
        assert sorted(line.split(':')[0] for line in lines) == ['  job 0', '  job 1', '  job 2']
        assert all(re.fullmatch(r'  job \d: \d+ s', line) for line in lines)

    @pytest.mark.parametrize('parallel', [1, 2])
    def test_number_of_parallel_jobs_is_limited(self, tmp_path, parallel):
        todo = make(tmp_path, *[work] * 4)
        run_jobs(todo, parallel, threads=1)
        together = [int((job.folder / 'together').read_text()) for job in todo]
        assert max(together) == parallel

    def test_a_job_waits_for_the_one_it_needs(self, tmp_path):
        todo = make(tmp_path, work, work, work)
        todo[0].after = 'job 2'
        done = []
        run_jobs(todo, parallel=3, threads=1, on_done=done.append)
        assert [job.name for job in done][-1] == 'job 0'
        assert todo[0].started > todo[2].started + 0.3

    def test_a_needed_job_may_have_been_done_before(self, tmp_path):
        (job,) = make(tmp_path, work)
        job.after = 'another'
        run_jobs([job], parallel=1, threads=1)
        assert (job.folder / 'done').is_file()

    def test_failure_shows_the_output_and_stops_the_others(self, tmp_path, capsys):
        todo = make(tmp_path, hang, fail, work)
        with pytest.raises(UserError, match=r'job 1 failed.*output\.log'):
            run_jobs(todo, parallel=2, threads=1)
        assert capsys.readouterr().err == 'this is fail\nreason to fail\n'
        todo[0].process.join(timeout=10)
        assert todo[0].process.exitcode != 0
        pid = todo[0].folder / 'pid'
        assert not pid.exists() or not is_alive(pid.read_text())
        assert not todo[2].folder.exists()

    def test_nothing_to_do(self, capsys):
        run_jobs([], parallel=2, threads=1)
        assert capsys.readouterr().out == ''

    def test_progress(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(module, 'REPORT_SECONDS', 0.1)
        run_jobs(make(tmp_path, work), parallel=1, threads=1)
        lines = [line for line in capsys.readouterr().out.splitlines() if ' done, ' in line]
        assert re.fullmatch(r'  0 of 1 done, about \d:\d\d left', lines[0])


def test_command_gets_its_arguments_and_status(tmp_path, monkeypatch):
    script = tmp_path / 'command.py'
    script.write_text('import sys\nif __name__ == "__main__":\n    sys.exit(len(sys.argv[1:]))\n')
    monkeypatch.setattr(sys, 'argv', sys.argv)
    with pytest.raises(SystemExit) as ended:
        run_command(str(script), 'a', 'b')
    assert ended.value.code == 2


class TestShareDone:
    def test_before_the_first_iteration(self, tmp_path):
        assert Job('a', print, tmp_path, 10, steps=10).share_done() == 0

    def test_of_a_running_training(self, tmp_path):
        file = tmp_path / 'run/vis_data/scalars.json'
        file.parent.mkdir(parents=True)
        file.write_text(SCALARS)
        assert Job('a', print, tmp_path, 10, steps=10).share_done() == 0.5
        assert Job('a', print, tmp_path, 10, steps=4).share_done() == 1

    def test_of_an_analysis_in_the_folder_of_a_training(self, tmp_path):
        file = tmp_path / 'run/vis_data/scalars.json'
        file.parent.mkdir(parents=True)
        file.write_text(SCALARS)
        assert Job('a', print, tmp_path, 10).share_done() == 0


JOBS = [Job(str(place), print, 'nowhere', seconds) for place, seconds in enumerate((10, 30, 40))]


class TestRemainingTime:
    def test_starts_with_the_expected_time(self):
        assert RemainingTime(JOBS, parallel=2).seconds_left([], [], spent=0) == 40

    def test_does_not_change_at_the_expected_speed(self):
        remaining = RemainingTime(JOBS, parallel=1)
        assert remaining.seconds_left(JOBS[:1], [], spent=10) == 70
        assert remaining.seconds_left(JOBS, [], spent=80) == 0

    def test_follows_the_speed_of_the_machine(self):
        remaining = RemainingTime(JOBS, parallel=1)
        expected = remaining.seconds_left(JOBS[:2], [], spent=40)
        slower = remaining.seconds_left(JOBS[:2], [], spent=120)
        assert expected == 40
        # Three times the expected time so far, which counts beside a minute of expectation.
        assert slower == pytest.approx(40 * (60 + 120) / (60 + 40))
