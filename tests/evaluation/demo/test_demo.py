"""Jobs of the demonstration, with commands that take moments, and which trainings it leaves alone."""

import json
import re
import shutil

import pytest

from evaluation.demo import demo
from evaluation.demo.demo import Job, run_jobs
from evaluation.utils.errors import UserError
from tests.commands import ROOT

# Stands for tools/train.py: `... <what to do> --work-dir FOLDER`.
COMMAND = """
import os, pathlib, sys, time
wish, folder = sys.argv[1], pathlib.Path(sys.argv[3])
(folder / 'threads').write_text(os.environ['OMP_NUM_THREADS'])
print('this is', wish)
if wish == 'fail':
    print('reason to fail')
    sys.exit(1)
if wish == 'hang':
    (folder / 'pid').write_text(str(os.getpid()))
    time.sleep(60)
(folder / 'running').touch()
(folder / 'together').write_text(str(len(list(folder.parent.glob('*/running')))))
time.sleep(0.3)
(folder / 'running').unlink()
(folder / 'done').touch()
"""


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch):
    """A folder with a train command of its own, which is looked at often."""
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools/train.py').write_text(COMMAND)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, 'POLL_SECONDS', 0.02)


def make(tmp_path, *wishes):
    return [Job(f'job {i}', [wish], tmp_path / 'runs' / str(i), 10) for i, wish in enumerate(wishes)]


def is_alive(pid):
    # A process that ended but was not waited for is listed too, as a zombie.
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def ignore(job):
    """Nothing to do when a job is done."""


class TestRunJobs:
    def test_what_ended_before_a_failure_is_done(self, tmp_path):
        done = []
        with pytest.raises(UserError):
            run_jobs(make(tmp_path, 'work', 'fail'), parallel=1, threads=1, on_done=done.append)
        assert [job.name for job in done] == ['job 0']

    def test_all_run_with_their_threads(self, tmp_path, capsys):
        todo = make(tmp_path, 'work', 'work', 'work')
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
    def test_no_more_at_a_time_than_asked(self, tmp_path, parallel):
        todo = make(tmp_path, *['work'] * 4)
        run_jobs(todo, parallel, threads=1, on_done=ignore)
        together = [int((job.folder / 'together').read_text()) for job in todo]
        assert max(together) <= parallel

    def test_failure_is_told_and_stops_the_others(self, tmp_path, capsys):
        todo = make(tmp_path, 'hang', 'fail', 'work')
        with pytest.raises(UserError, match=r'job 1 failed.*output\.log'):
            run_jobs(todo, parallel=2, threads=1, on_done=ignore)
        assert capsys.readouterr().err == 'this is fail\nreason to fail\n'
        todo[0].process.wait(timeout=10)
        assert todo[0].process.returncode != 0
        pid = todo[0].folder / 'pid'
        assert not pid.exists() or not is_alive(pid.read_text())
        assert not todo[2].folder.exists()

    def test_nothing_to_do(self, capsys):
        run_jobs([], parallel=2, threads=1, on_done=ignore)
        assert capsys.readouterr().out == ''

    def test_progress(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(demo, 'REPORT_SECONDS', 0.1)
        todo = make(tmp_path, 'work')
        log = todo[0].folder / 'run/vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text('{"step": 2, "lr": 0.1}\n{"step": 5, "lr": 0.1}\n{"step": 6, "l')
        run_jobs(todo, parallel=1, threads=1, on_done=ignore)
        lines = [line for line in capsys.readouterr().out.splitlines() if ' done, ' in line]
        pattern = r'  0 of 1 done, 50% of all steps, about \d:\d\d left'
        assert re.fullmatch(pattern, lines[0])


class TestStepsDone:
    def test_before_the_first(self, tmp_path):
        assert Job('a', [], tmp_path, 10).steps_done() == 0

    def test_of_the_last_run(self, tmp_path):
        for run, step in (('20260101_000000', 9), ('20260102_000000', 4)):
            file = tmp_path / run / 'vis_data/scalars.json'
            file.parent.mkdir(parents=True)
            entries = ({'step': step, 'loss': 1.0}, {'mIoU': 1.0, 'step': 50})
            file.write_text('\n'.join(map(json.dumps, entries)))
        assert Job('a', [], tmp_path, 10).steps_done() == 4

    def test_of_another_command_in_the_folder_of_a_training(self, tmp_path):
        file = tmp_path / 'run/vis_data/scalars.json'
        file.parent.mkdir(parents=True)
        file.write_text('{"step": 9}\n')
        assert Job('a', [], tmp_path, 10, script='tools/analyze_erf.py').steps_done() == 0


NAME = 'upernet_swin_micro'


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The demonstration in an empty folder, with the project's configs."""
    monkeypatch.setattr(demo, 'CONFIGS', ROOT / 'configs/demo')
    monkeypatch.setattr(demo, 'FOLDER', tmp_path / 'demo')
    return tmp_path / 'demo'


def finish(job, stamp):
    """What a training leaves, and its stamp."""
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / 'iter_120.pth').touch()
    (job.folder / 'last_checkpoint').write_text(str(job.folder / 'iter_120.pth'))
    (job.folder / 'finished').write_text(stamp + '\n')


class TestDemo:
    def test_trains_every_mixer_on_both_tasks(self, work):
        files = {file.stem for file in (ROOT / 'configs/demo').glob('*.py')}
        names = demo.demo_names()
        dense = {name for name in files if not name.startswith('imagenet')}
        assert len(names) == len(set(names)) == 25
        assert set(names) == files | {f'{name}_pretrained' for name in dense}

    def test_a_mixer_without_pretraining_starts_from_scratch(self, work, tmp_path, monkeypatch):
        shutil.copytree(ROOT / 'configs', tmp_path / 'configs')
        monkeypatch.setattr(demo, 'CONFIGS', tmp_path / 'configs/demo')
        (tmp_path / 'configs/demo/imagenet_dcn_micro.py').unlink()
        of_dcn = [name for name in demo.demo_names() if '_dcn_' in name]
        assert of_dcn == ['mask_rcnn_dcn_micro', 'upernet_dcn_micro']

    def test_a_pretrained_training_begins_with_its_mixers_weights(self, work):
        job = demo.make_job(f'{NAME}_pretrained')
        weights = work / 'imagenet_swin_micro' / 'epoch_4.pth'
        assert job.arguments == [*demo.make_job(NAME).arguments, '--pretrained', str(weights)]
        assert job.folder == work / f'{NAME}_pretrained'

    def test_weights_of_another_pretraining_are_done_again(self, work, monkeypatch):
        name = f'{NAME}_pretrained'
        job = demo.make_job(name)
        finish(job, demo.digest(name))
        assert demo.is_finished(name, job)
        read = demo.read_config

        def changed(file):
            cfg = read(file)
            if 'imagenet' in file:
                cfg.optim_wrapper.optimizer.lr = 0.1
            return cfg

        monkeypatch.setattr(demo, 'read_config', changed)
        assert not demo.is_finished(name, job)
        assert demo.digest(NAME) != demo.digest(name)

    def test_training_without_a_stamp_is_not_finished(self, work):
        job = demo.make_job(NAME)
        finish(job, demo.digest(NAME))
        (job.folder / 'finished').unlink()
        assert not demo.is_finished(NAME, job)

    def test_stamped_training_is_finished(self, work):
        job = demo.make_job(NAME)
        finish(job, demo.digest(NAME))
        assert demo.is_finished(NAME, job)

    def test_training_of_another_config_is_not_finished(self, work):
        job = demo.make_job(NAME)
        finish(job, demo.digest('upernet_halo_micro'))
        assert not demo.is_finished(NAME, job)

    def test_training_on_other_scenes_is_not_finished(self, work, monkeypatch):
        job = demo.make_job(NAME)
        finish(job, demo.digest(NAME))
        for setting, value in (('SEED', 1), ('SPLITS', {'train': 299, 'val': 60})):
            with monkeypatch.context() as patch:
                patch.setattr(demo, setting, value)
                assert not demo.is_finished(NAME, job)

    @pytest.mark.parametrize('lost', ['iter_120.pth', 'last_checkpoint'])
    def test_training_that_lost_its_checkpoint_is_not_finished(self, work, lost):
        job = demo.make_job(NAME)
        finish(job, demo.digest(NAME))
        (job.folder / lost).unlink()
        assert not demo.is_finished(NAME, job)

    def test_checkpoint_is_found_where_the_folder_was_moved(self, work):
        job = demo.make_job(NAME)
        finish(job, demo.digest(NAME))
        (job.folder / 'last_checkpoint').write_text('/elsewhere/demo/iter_120.pth')
        assert demo.is_finished(NAME, job)

    def test_steps_are_those_of_the_config(self, work):
        assert demo.make_job(NAME).steps == 160
        # 160 scenes in batches of 2, twice.
        assert demo.make_job('mask_rcnn_swin_micro').steps == 160
        # 480 shapes in batches of 8, four times.
        assert demo.make_job('imagenet_swin_micro').steps == 240

    def test_only_what_is_not_finished_is_trained(self, work, monkeypatch, capsys):
        trained = []
        monkeypatch.setattr(demo, 'write_datasets', lambda *_: None)
        monkeypatch.setattr(demo, 'write_imagenet', lambda *_: None)
        monkeypatch.setattr(demo, 'write_tables', lambda folders: None)
        monkeypatch.setattr(demo, 'write_pictures', lambda all_jobs: None)
        monkeypatch.setattr(demo, 'write_report', lambda folders: None)

        def run(todo, parallel, threads, on_done):
            trained.append([job.name for job in todo])
            for job in todo:
                finish(job, '')
                on_done(job)

        monkeypatch.setattr(demo, 'run_jobs', run)
        names = demo.demo_names()[:4]
        monkeypatch.setattr(demo, 'demo_names', lambda: names)
        finish(demo.make_job(names[3]), demo.digest(names[3]))
        demo.run_demo(parallel=2)
        demo.run_demo(parallel=2)
        # First what others begin with.
        assert trained == [names[:1], names[1:3], [], []]
        assert '2 to do, 1 finished before; 2 at a time' in capsys.readouterr().out

    def test_elsewhere_it_says_where_to_start(self, monkeypatch, tmp_path):
        monkeypatch.setattr(demo, 'CONFIGS', tmp_path / 'configs/demo')
        with pytest.raises(UserError, match='start this command in the folder of the project'):
            demo.run_demo(parallel=1)
