"""`--evaluator` of training and testing."""

import pytest
from mmengine.config import Config

from tests.commands import ROOT, read_results

KIND = 'Configs and options'
# Runs the command without the package: an entry of None in sys.modules makes imports fail.
WITHOUT = """
import runpy, sys
sys.modules['faster_coco_eval'] = None
runpy.run_path({command!r}, run_name='__main__')
"""


@pytest.fixture
def without_package(commands, tmp_path):
    """Run a command as if faster-coco-eval were not installed."""

    def run(command, *arguments):
        script = tmp_path / f'{command}_without_package'
        script.with_suffix('.py').write_text(WITHOUT.format(command=str(ROOT / f'tools/{command}.py')))
        (tmp_path / 'here').mkdir()
        return commands(script, *arguments, folder=tmp_path / 'here')

    return run


class TestFigures:
    def test_both_evaluators_give_the_same(self, commands, trials, work_dir_of, tmp_path):
        trial = trials['mask_rcnn']
        checkpoint = work_dir_of('mask_rcnn') / f'{trial.end}.pth'
        results = {}
        for name in ('pycocotools', 'fast'):
            wishes = ['--evaluator', name, '--work-dir', tmp_path / name]
            commands.succeed('test', trial.config, checkpoint, *wishes, *trial.arguments())
            (results[name],) = read_results(tmp_path / name)
            dumped = Config.fromstring(results[name]['config']['text'], '.py')
            assert dumped.test_evaluator.evaluator == name
        one, other = results.values()
        assert one['metrics'] == pytest.approx(other['metrics'], abs=1e-9)
        for kind, values in one['per_class'].items():
            assert values == pytest.approx(other['per_class'][kind], abs=1e-9)
        assert max(value for value in one['metrics'].values() if value is not None) > 0
        assert one['versions']['evaluator'] == 'pycocotools'
        assert other['versions']['evaluator'] == 'faster-coco-eval'
        assert other['versions']['faster-coco-eval']

    def test_result_of_a_training_names_the_default(self, work_dir_of):
        for result in read_results(work_dir_of('mask_rcnn')):
            assert result['versions']['evaluator'] == 'faster-coco-eval'

    def test_mean_iou_needs_no_evaluator(self, work_dir_of):
        for result in read_results(work_dir_of('upernet')):
            assert result['versions']['evaluator'] is None


class TestBadInput:
    def test_unknown(self, train, trials, tmp_path, refused):
        trial = trials['mask_rcnn']
        outcome = train(trial.config, '--evaluator', 'fats', *trial.arguments())
        message = "unknown evaluator 'fats'; choose from pycocotools, fast; did you mean fast?"
        refused(KIND, 'an unknown `--evaluator`', outcome, message)
        assert not list(tmp_path.iterdir())

    def test_unknown_in_the_config(self, train, trials, tmp_path, refused):
        trial = trials['mask_rcnn']
        outcome = train(trial.config, *trial.arguments(val_evaluator__evaluator='coco'))
        refused(KIND, 'an unknown evaluator in the config', outcome, "unknown evaluator 'coco'")
        assert not list(tmp_path.iterdir())

    def test_segmentation_config(self, test, trials, work_dir_of, refused, nothing_written):
        trial = trials['upernet']
        checkpoint = work_dir_of('upernet') / f'{trial.end}.pth'
        outcome = test(trial.config, checkpoint, '--evaluator', 'fast', *trial.arguments())
        refused(
            KIND,
            '`--evaluator` with a segmentation config',
            outcome,
            '--evaluator fast applies to detection',
            'upernet_dcn_micro.py has no InstanceMetric; omit it',
        )
        assert nothing_written()

    def test_package_is_not_installed(self, without_package, trials, tmp_path, refused):
        trial = trials['mask_rcnn']
        outcome = without_package('train', trial.config, *trial.arguments())
        refused(
            KIND,
            'the fast evaluator without its package',
            outcome,
            'the evaluator fast needs the package faster-coco-eval: pip install faster-coco-eval',
            'or use --evaluator pycocotools',
        )
        assert not list((tmp_path / 'here').iterdir())

    def test_the_other_evaluator_needs_no_package(self, without_package, trials, work_dir_of, tmp_path):
        trial = trials['mask_rcnn']
        checkpoint = work_dir_of('mask_rcnn') / f'{trial.end}.pth'
        wishes = ['--evaluator', 'pycocotools', *trial.arguments()]
        outcome = without_package('test', trial.config, checkpoint, *wishes)
        assert outcome.status == 0, outcome.stderr[-3000:]
        (result,) = read_results(tmp_path / 'here')
        assert result['versions']['evaluator'] == 'pycocotools'
