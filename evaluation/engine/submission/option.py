"""The option `--format-only` of `tools/test.py`."""

from pathlib import Path

from mmengine.config import Config, ConfigDict

from evaluation.data.coco_file import read_json
from evaluation.data.dataset_config import class_names, path_of, plain_datasets
from evaluation.data.image_loading import without_truth
from evaluation.engine.experiment import check_work_dir
from evaluation.engine.submission.metrics import InstanceSubmission, MapSubmission
from evaluation.utils.errors import UserError


def leave_out_truth(cfg: Config, folder: str) -> None:
    """Test without annotations and without a result, before the data are looked for.

    Args:
        cfg: the config.
        folder: where predictions go.

    Raises:
        UserError: `folder` cannot be written, the model is a classifier, or data sets are joined.
    """
    if Path(folder).exists() and not Path(folder).is_dir():
        raise UserError(f'--format-only {folder} is a file; give a folder')
    check_work_dir(Path(folder))
    if cfg.default_scope not in ('mmdet', 'mmseg'):
        raise UserError(
            f'--format-only: {cfg.filename} is a classifier, which has no submission format; '
            'use tools/predict.py'
        )
    dataset = cfg.test_dataloader.dataset
    if [*plain_datasets(dataset)] != [dataset]:
        raise UserError(
            f'--format-only: test_dataloader.dataset of {cfg.filename} joins or repeats others; '
            'give a single data set'
        )
    dataset.pipeline = without_truth(dataset.pipeline)
    dataset.get('data_prefix', {}).pop('seg_map_path', None)
    if 'tta_pipeline' in cfg:
        cfg.tta_pipeline = without_truth(cfg.tta_pipeline)
    cfg.default_hooks.pop('result', None)
    cfg.test_evaluator = ConfigDict(type=MapSubmission.__name__, folder=folder)


def write_submission(cfg: Config, folder: str) -> None:
    """Write predictions in place of an evaluation, after the data have been looked for."""
    dataset = cfg.test_dataloader.dataset
    if cfg.default_scope == 'mmdet':
        evaluator = dict(type=InstanceSubmission.__name__, category_ids=category_ids(dataset, cfg))
    else:
        images = str(path_of(dataset, dataset.data_prefix.img_path))
        evaluator = dict(type=MapSubmission.__name__, images=images)
    cfg.test_evaluator = ConfigDict(**evaluator, folder=folder)


def category_ids(dataset: ConfigDict, cfg: Config) -> list[int]:
    """Return the id of each class in a data set's annotation file, in the order of the labels."""
    categories = read_json(path_of(dataset, dataset.ann_file))['categories']
    classes = class_names(dataset, cfg.default_scope)
    return [category['id'] for category in categories if category['name'] in classes]
