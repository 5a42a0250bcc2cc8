"""Which analyses the demonstration does, and which it leaves alone."""

import pytest

from evaluation.analysis.results import ANALYSES
from evaluation.demo import demo, demo_analyses
from tests.commands import ROOT

NAME = 'mask_rcnn_swin_micro_pretrained'


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    """The demonstration in an empty folder, with the project's configs."""
    monkeypatch.setattr(demo, 'CONFIGS', ROOT / 'configs/demo')
    monkeypatch.setattr(demo, 'FOLDER', tmp_path / 'demo')
    return tmp_path / 'demo'


def finish(job):
    """What an analysis leaves, and its stamp."""
    file = demo_analyses.result_file(job)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('{}')
    demo_analyses.mark_finished(job)


def test_of_every_pretrained_detector():
    detectors = [name for name in demo.demo_names() if demo_analyses.is_detector(name)]
    assert len(detectors) == 5
    assert NAME in detectors


@pytest.mark.parametrize('kind', ANALYSES)
def test_command(kind, work):
    folder = work / NAME
    folder.mkdir(parents=True)
    (folder / 'epoch_2.pth').write_text('weights')
    (folder / 'last_checkpoint').write_text(f'{folder}/epoch_2.pth')
    job = demo_analyses.make_job(kind, NAME)
    assert (ROOT / job.script).is_file()
    config = ROOT / 'configs/demo/mask_rcnn_swin_micro.py'
    assert job.arguments[:2] == [str(config), str(folder / 'epoch_2.pth')]
    assert (job.folder, job.log) == (folder, f'{kind}.log')


def test_finished_until_options_or_the_training_change(monkeypatch):
    job = demo_analyses.make_job('erf', NAME)
    assert not demo_analyses.is_finished(job)
    finish(job)
    assert demo_analyses.is_finished(job)
    with monkeypatch.context() as patch:
        patch.setitem(demo_analyses.OPTIONS, 'erf', ('--size', '64'))
        assert not demo_analyses.is_finished(demo_analyses.make_job('erf', NAME))
    monkeypatch.setattr(demo, 'SEED', 1)
    assert not demo_analyses.is_finished(job)


def test_not_finished_without_its_result():
    job = demo_analyses.make_job('erf', NAME)
    finish(job)
    demo_analyses.result_file(job).unlink()
    assert not demo_analyses.is_finished(job)


def test_only_what_is_not_finished_is_done_and_all_is_compared(work, monkeypatch, capsys):
    compared, done = {}, []
    monkeypatch.setattr(demo_analyses, 'compare', lambda kind, files: compared.update({kind: files}))
    monkeypatch.setattr(demo_analyses, 'write_table', lambda folders: None)
    reported = []
    monkeypatch.setattr(demo, 'write_report', reported.extend)

    def run(todo, parallel, threads, on_done):
        done.extend(job.name for job in todo)
        for job in todo:
            finish(job)

    monkeypatch.setattr(demo_analyses, 'run_jobs', run)
    finish(demo_analyses.make_job('erf', NAME))
    demo_analyses.run_analyses(parallel=1)
    assert len(done) == len(set(done)) == 5 * len(ANALYSES) - 1
    assert f'erf {NAME}' not in done
    assert [*compared] == [*ANALYSES]
    assert work / NAME / 'analysis/erf.json' in compared['erf']
    assert all(len(files) == 5 for files in compared.values())
    assert reported == [work / name for name in demo.demo_names()]
    assert '14 to do, 1 finished before' in capsys.readouterr().out
