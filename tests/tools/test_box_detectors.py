"""Boxes without masks, end to end: training, testing, tables, and errors."""

import pickle
import shutil

import pytest

from tests.coco_truth import remove_masks
from tests.commands import option_list, read_results

pytestmark = pytest.mark.habits

KIND = 'Data'
NO_MASKS = {'model.roi_head.mask_head': None, 'train_cfg.max_epochs': 1}


@pytest.fixture(scope='module')
def boxes(trials, tmp_path_factory):
    """The scenes without masks."""
    root = tmp_path_factory.mktemp('boxes') / 'coco'
    shutil.copytree(trials['mask_rcnn'].data_root, root)
    for file in (root / 'annotations').glob('*.json'):
        remove_masks(file)
    return root


@pytest.fixture(scope='module')
def arguments(trials, boxes):
    trial = trials['mask_rcnn']
    options = {**trial.options, **NO_MASKS}
    return ['--data-root', boxes, *option_list(options)]


@pytest.fixture(scope='module')
def run(commands, trials, arguments, tmp_path_factory):
    """The folder of a training of a detector without masks on these boxes."""
    folder = tmp_path_factory.mktemp('run')
    done = commands.succeed('train', trials['mask_rcnn'].config, *arguments, folder=folder)
    assert 'the model predicts no masks, so none are loaded' in done.stdout
    return folder


def test_the_result_has_boxes_alone(run):
    (result,) = read_results(run)
    assert {name.partition('_')[0] for name in result['metrics']} == {'box'}
    assert {*result['per_class']} == {'box_AP'}
    assert result['evidence']
    assert not [part for part in result['complexity']['parts'] if 'mask' in part['name']]


def test_testing_with_tta_drawings_and_predictions(commands, trials, arguments, run, tmp_path):
    checkpoint = next(run.rglob('epoch_1.pth'))
    options = ['--tta', '--out', 'found.pkl', '--show-dir', 'drawn']
    commands.succeed(
        'test', trials['mask_rcnn'].config, checkpoint, *options, *arguments, folder=tmp_path
    )
    (result,) = read_results(tmp_path)
    assert result['test_time_augmentation']
    assert {name.partition('_')[0] for name in result['metrics']} == {'box'}
    dumped = pickle.loads((tmp_path / 'found.pkl').read_bytes())
    assert len(dumped) == result['images'] == len([*(tmp_path / 'drawn').rglob('*.jpg')])
    assert not any('masks' in each['pred_instances'] for each in dumped)


def test_table_comparison_and_report(commands, trials, arguments, run, work_dir_of, tmp_path):
    alone = commands.succeed('table', run, folder=tmp_path).stdout
    assert '### Detection on generated scenes' in alone
    assert 'mask' not in alone
    masked, trial = work_dir_of('mask_rcnn'), trials['mask_rcnn']
    table = commands.succeed('table', run, masked, '--ci', folder=tmp_path).stdout
    assert 'mask AP' in table
    # Use the annotations of the other model; their masks are ignored.
    again = [
        trial.config,
        next(run.rglob('epoch_1.pth')),
        *arguments[2:],
        '--data-root',
        trial.data_root,
    ]
    commands.succeed('test', *again, '--work-dir', 'again', folder=tmp_path)
    done = commands.succeed('compare', 'again', masked, '--resamples', '200', folder=tmp_path)
    compared = done.stdout
    assert '| box AP ' in compared
    assert '| mask AP ' not in compared
    commands.succeed('report', run, masked, '--output', 'report.html', folder=tmp_path)
    assert 'Detection on generated scenes' in (tmp_path / 'report.html').read_text()


def test_missing_masks(train, trials, boxes, nothing_written, refused):
    trial = trials['mask_rcnn']
    outcome = train(trial.config, '--data-root', boxes, *option_list(trial.options))
    refused(
        KIND,
        'boxes without masks, and a detector that predicts masks',
        outcome,
        'has no segmentation, but the config uses masks; add it, or use a config',
        'model.roi_head.mask_head=None',
    )
    assert nothing_written()


def test_mask_metric_without_predicted_masks(train, trials, arguments, nothing_written, refused):
    outcome = train(trials['mask_rcnn'].config, *arguments, 'val_evaluator.metric=[bbox,segm]')
    refused(
        'Configs and options',
        '`val_evaluator.metric=[bbox,segm]` with a detector that predicts no masks',
        outcome,
        'val_evaluator.metric asks for segm, but the model predicts no masks',
    )
    assert nothing_written()


class TestExamination:
    def test_detector_without_masks(self, commands, boxes, tmp_path):
        file = tmp_path / 'boxes.py'
        file.write_text("default_scope = 'mmdet'\nmodel = dict(type='FCOS', bbox_head=dict())\n")
        found = commands('check_data', '--data-root', boxes, '--config', file)
        assert (found.status, found.stdout.splitlines()[-1]) == (0, 'clean: no findings')

    def test_detector_with_masks(self, commands, trials, boxes):
        found = commands('check_data', '--data-root', boxes, '--config', trials['mask_rcnn'].config)
        assert found.status == 1
        assert 'missing masks' in found.stdout

    def test_layout_without_boxes(self, commands, trials, refused):
        root, config = trials['upernet'].data_root, trials['mask_rcnn'].config
        outcome = commands('check_data', '--data-root', root, '--config', config)
        refused(
            KIND,
            'check_data: `--config` with semantic segmentation data',
            outcome,
            '--config applies only to coco',
        )
