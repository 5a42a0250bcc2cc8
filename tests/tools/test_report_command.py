"""`tools/report.py`: input, omitted parts, and error messages."""

import json
import re
import shutil

import pytest

from tests.evaluation.report.matrix import document, write_run

KIND = 'Tables and other commands'


@pytest.fixture
def report(commands, tmp_path):
    """Run `tools/report.py` in an empty folder."""
    return lambda *arguments: commands('report', *arguments, folder=tmp_path)


def data_of(file):
    """Return the data of the page."""
    return json.loads(re.search(r'id="data">(.*?)</script>', file.read_text())[1])


class TestTrained:
    @pytest.fixture
    def runs(self, trained, tmp_path):
        """A copy of a finished training."""
        return shutil.copytree(trained, tmp_path / 'work_dirs' / trained.name)

    def test_pictures_intervals_and_curves(self, report, trial, runs, tmp_path):
        arguments = ('--images', 2, '--resamples', 200)
        first = report(*arguments)
        assert first.status == 0, first.stderr[-3000:]
        data = data_of(tmp_path / 'report.html')
        (run,) = [run for run in data['runs'] if run['selected']]
        (group,) = data['pictures']['groups'].values()
        assert data['pictures']['missing'] == []
        assert len(group['images']) == 2
        for image in group['images']:
            assert image['truth'].startswith('data:image/jpeg;base64,')
            assert image['predictions'][run['key']]['image'].startswith('data:image/jpeg;base64,')
        assert data['curves'][run['curves']]['training']['loss']['x'] == [1, 2, 3, 4]
        assert run['intervals']
        assert all(0 <= low <= high <= 100 for low, high in run['intervals'].values())
        assert bool(run['errors']) == (trial.task == 'mask_rcnn')
        (kept,) = runs.glob('report/pictures-*.json')
        written = kept.stat().st_mtime_ns
        before = (tmp_path / 'report.html').read_bytes()
        assert report(*arguments).status == 0
        assert kept.stat().st_mtime_ns == written
        assert (tmp_path / 'report.html').read_bytes() == before

    def test_identical_models_do_not_differ(self, report, runs, tmp_path):
        other = shutil.copytree(runs, runs.with_name('other'))
        for file in other.rglob('result.json'):
            content = json.loads(file.read_text())
            content['config']['name'] = 'other'
            file.write_text(json.dumps(content))
        outcome = report('--resamples', 200)
        assert outcome.status == 0, outcome.stderr[-3000:]
        data = data_of(tmp_path / 'report.html')
        assert data['differences']
        for each in data['differences']:
            assert each['difference'] == {'value': 0, 'low': 0, 'high': 0}
            assert not each['toldApart']
            keys = {key for side in 'ab' for key in each[side]['runs']}
            assert keys == {run['key'] for run in data['runs'] if run['selected']}

    def test_invalid_evidence_is_omitted(self, report, runs, tmp_path):
        for file in runs.rglob('evidence.npz'):
            file.write_bytes(b'none')
        outcome = report('--resamples', 200)
        assert outcome.status == 0, outcome.stderr[-3000:]
        data = data_of(tmp_path / 'report.html')
        assert not any(run['intervals'] or run['errors'] for run in data['runs'])
        assert any('evidence.npz' in problem for problem in data['problems'])

    def test_reports_why_pictures_are_missing(self, report, trial, runs, tmp_path):
        for checkpoint in runs.glob('*.pth'):
            checkpoint.unlink()
        outcome = report('--images', 2, '--resamples', 0)
        assert outcome.status == 0, outcome.stderr[-3000:]
        data = data_of(tmp_path / 'report.html')
        assert data['pictures']['groups'] == {}
        (missing,) = data['pictures']['missing']
        assert missing['reason'] == f'work_dirs/{runs.name}/{trial.end}.pth is missing'

    @pytest.mark.parametrize(
        ('text', 'replacement', 'reason'),
        [
            (
                "'evaluation.registration'",
                "'evaluation.gone'",
                'config of the result: there is no module evaluation.gone to import',
            ),
            (
                "'evaluation.registration'",
                "'beside'",
                'its config imports beside, which is not part of the suite',
            ),
            (
                "type='FPN'",
                "type='subprocess.Popen'",
                'its config has the type subprocess.Popen, which is not part of the suite',
            ),
            ("type='FPN'", "type='NoNeck'", "model.neck.type='NoNeck' is unknown"),
            ("type='FPN'", "type='FPN', odd=1", 'its config cannot be built (TypeError'),
        ],
    )
    def test_stored_configs_are_restricted(
        self, report, trial, runs, tmp_path, monkeypatch, text, replacement, reason
    ):
        """Results are data: their configs import and build only parts of the suite and its libraries."""
        if trial.task == 'upernet':
            text = text.replace('FPN', 'UPerHead')
            reason = reason.replace('neck', 'decode_head')
        (tmp_path / 'beside.py').write_text('import pathlib\npathlib.Path("ran").touch()\n')
        monkeypatch.setenv('PYTHONPATH', str(tmp_path))
        for file in runs.rglob('result.json'):
            content = json.loads(file.read_text())
            assert text in content['config']['text']
            content['config']['text'] = content['config']['text'].replace(text, replacement)
            file.write_text(json.dumps(content))
        outcome = report('--images', 2, '--resamples', 0)
        assert outcome.status == 0, outcome.stderr[-3000:]
        (missing,) = data_of(tmp_path / 'report.html')['pictures']['missing']
        assert missing['reason'].startswith(reason)
        assert not list(tmp_path.rglob('ran'))

    def test_unused_types_are_not_imported(self, report, runs, tmp_path, monkeypatch):
        (tmp_path / 'beside.py').write_text('import pathlib\npathlib.Path("ran").touch()\n')
        monkeypatch.setenv('PYTHONPATH', str(tmp_path))
        for file in runs.rglob('result.json'):
            content = json.loads(file.read_text())
            text = content['config']['text']
            assert "type='ResultHook'" in text
            content['config']['text'] = text.replace("type='ResultHook'", "type='beside.Hook'")
            file.write_text(json.dumps(content))
        assert report('--images', 2, '--resamples', 0).status == 0
        assert data_of(tmp_path / 'report.html')['pictures']['missing'] == []
        assert not list(tmp_path.rglob('ran'))


class TestOmitted:
    @pytest.mark.parametrize(
        ('name', 'content'),
        [
            ('analysis/erf.json', '{'),
            ('analysis/invariance.json', '{"analysis": "invariance"}'),
            ('analysis/robustness.json', '[]'),
            ('20260101_120000/vis_data/scalars.json', '{"lr": 1\n{"lr": 1}\n'),
            ('speed.json', '{"machine": {}}'),
        ],
    )
    def test_malformed_file_gives_a_warning(self, report, tmp_path, name, content):
        run = tmp_path / 'work_dirs' / 'run'
        write_run(run, document())
        file = run / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        outcome = report()
        assert outcome.status == 0, outcome.stderr
        (warning,) = [line for line in outcome.stderr.splitlines() if line.startswith('warning:')]
        place = f'work_dirs/run/{name}'
        assert place in warning
        (problem,) = data_of(tmp_path / 'report.html')['problems']
        assert f'warning: {problem}' == warning
        assert place in (tmp_path / 'report.html').read_text().partition('<main>')[0]


class TestRefused:
    @pytest.fixture
    def found(self, tmp_path):
        write_run(tmp_path / 'work_dirs' / 'run', document())

    def test_no_folder(self, report, refused):
        refused(
            KIND, 'report: a folder that does not exist', report('nowhere'), 'nowhere is not a folder'
        )

    def test_no_results(self, report, refused, tmp_path):
        (tmp_path / 'empty').mkdir()
        refused(KIND, 'report: a folder without results', report('empty'), 'no result.json under empty')

    def test_malformed_result(self, report, refused, tmp_path):
        file = write_run(tmp_path / 'work_dirs' / 'run', document())
        file.write_text('{')
        refused(KIND, 'report: a result that is not valid JSON', report(), 'not JSON')

    def test_output_in_no_folder(self, report, refused, found):
        outcome = report('-o', 'nowhere/report.html')
        refused(KIND, 'report: `-o` in a folder that does not exist', outcome, 'cannot be written')

    def test_output_that_is_a_folder(self, report, refused, found):
        refused(KIND, 'report: `-o` that is a folder', report('-o', 'work_dirs'), 'cannot be written')

    def test_published_is_missing(self, report, refused, found, tmp_path):
        outcome = report('--published', 'facts.json')
        refused(KIND, 'report: `--published` with a missing file', outcome, "or 'none'")
        assert not (tmp_path / 'report.html').exists()

    def test_no_images(self, report, refused, found):
        refused(KIND, 'report: `--images` of 0', report('--images', 0), "'0' is not a whole number")

    def test_too_few_resamples(self, report, refused, found, tmp_path):
        outcome = report('--resamples', 20)
        refused(KIND, 'report: too few `--resamples`', outcome, 'give 200 to 1000000')
        assert not (tmp_path / 'report.html').exists()
