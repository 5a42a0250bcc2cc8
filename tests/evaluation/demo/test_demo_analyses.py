"""Analyses of the demonstration, and which of them are repeated."""

import dataclasses

import pytest

from evaluation.analysis.results import ANALYSES
from evaluation.demo import demo as trainings
from evaluation.demo import demo_analyses
from evaluation.demo.demo import FULL, Demo
from tests.commands import ROOT

NAME = 'mask_rcnn_swin_micro_pretrained'


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """Demonstration in an empty folder, with the project's configs."""
    monkeypatch.setattr(trainings, 'CONFIGS', ROOT / 'configs/demo')
    return Demo(dataclasses.replace(FULL, folder=tmp_path / 'demo'))


def finish(demo, kind, name=NAME):
    """Write the output of a finished analysis, and its stamp."""
    file = demo_analyses.result_file(demo, kind, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('{}')
    demo_analyses.mark_finished(demo, kind, name)


def test_every_pretrained_detector_is_analyzed(demo):
    detectors = [name for name in demo.names() if demo_analyses.is_detector(name)]
    assert len(detectors) == 5
    assert NAME in detectors


@pytest.mark.parametrize('kind', ANALYSES)
def test_command(kind, demo):
    folder = demo.folder / NAME
    folder.mkdir(parents=True)
    (folder / 'epoch_2.pth').write_text('weights')
    (folder / 'last_checkpoint').write_text(f'{folder}/epoch_2.pth')
    job = demo_analyses.analysis_job(demo, kind, NAME)
    command = list(job.work.args)
    assert (ROOT / command[0]).is_file()
    config = ROOT / 'configs/demo/mask_rcnn_swin_micro.py'
    assert command[1:3] == [str(config), str(folder / 'epoch_2.pth')]
    assert command[command.index('--work-dir') + 1] == str(folder)
    assert (job.folder, job.log) == (folder, f'{kind}.log')


def test_finished_until_options_or_the_training_change(demo, monkeypatch):
    assert not demo_analyses.is_finished(demo, 'erf', NAME)
    finish(demo, 'erf')
    assert demo_analyses.is_finished(demo, 'erf', NAME)
    with monkeypatch.context() as patch:
        patch.setitem(demo_analyses.OPTIONS, 'erf', ('--size', '64'))
        assert not demo_analyses.is_finished(demo, 'erf', NAME)
    monkeypatch.setattr(trainings, 'SEED', 1)
    assert not demo_analyses.is_finished(demo, 'erf', NAME)


def test_not_finished_without_a_result(demo):
    finish(demo, 'erf')
    demo_analyses.result_file(demo, 'erf', NAME).unlink()
    assert not demo_analyses.is_finished(demo, 'erf', NAME)


def test_finished_analyses_are_not_repeated_and_all_are_compared(demo, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(demo_analyses, 'write_table', lambda demo, detectors: None)

    def run(todo, parallel, threads, on_done=lambda job: None):
        ran.append([job.name for job in todo])
        for job in todo:
            on_done(job)

    monkeypatch.setattr(demo_analyses, 'run_jobs', run)
    finish(demo, 'erf')
    demo_analyses.run_analyses(demo, parallel=1)
    done, drawn = ran
    assert len(done) == len(set(done)) == 5 * len(ANALYSES) - 1
    assert f'erf {NAME}' not in done
    assert drawn == ['report', *(f'{kind}.png' for kind in ANALYSES)]
    job = demo_analyses.comparison_job(demo, 'erf', [NAME])
    assert str(demo.folder / NAME / 'analysis/erf.json') in job.work.args
    assert '14 to do, 1 finished before' in capsys.readouterr().out
