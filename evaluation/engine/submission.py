"""Write predictions of a test set as files for evaluation servers (`--format-only`)."""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmengine.registry import METRICS
from PIL import Image

from evaluation.data.coco_file import read_json
from evaluation.data.dataset_config import class_names, path_of, plain_datasets
from evaluation.data.image_loading import without_truth
from evaluation.engine.experiment import check_work_dir
from evaluation.metrics.coco_matching import KINDS, to_coco
from evaluation.metrics.predictions import encode_masks
from evaluation.utils.errors import UserError
from evaluation.utils.files import write_bytes, write_text

NAME = 'results'


@METRICS.register_module()
class InstanceSubmission(BaseMetric):
    """Write `results.bbox.json` and, if the detector has masks, `results.segm.json`.

    Args:
        folder: output folder.
        category_ids: id of each class in the data set's file, in the order of the labels.
    """

    def __init__(self, folder: str, category_ids: Sequence[int]) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.category_ids = list(category_ids)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the predictions of some images; `data_batch` is not used."""
        for sample in data_samples:
            found = sample['pred_instances']
            prediction = {name: found[name].cpu().numpy() for name in ('bboxes', 'scores', 'labels')}
            if 'masks' in found:
                prediction['masks'] = [as_text(code) for code in encode_masks(found['masks'])]
            self.results.append({'img_id': sample['img_id'], **prediction})

    def compute_metrics(self, results: list[dict]) -> dict:
        """Write the files; return no figures."""
        kinds = [kind for kind in KINDS if kind == 'bbox' or all('masks' in r for r in results)]
        for kind in kinds:
            file = self.folder / f'{NAME}.{kind}.json'
            write_text(file, json.dumps(to_coco(results, self.category_ids, kind), allow_nan=False))
            print_log(f'{len(results)} images: predictions written to {file}', logger='current')
        return {}


def as_text(code: dict) -> dict:
    """Return a run-length code with its counts as text, as in JSON."""
    return {'size': list(code['size']), 'counts': code['counts'].decode()}


@METRICS.register_module()
class MapSubmission(BaseMetric):
    """Write a PNG of class indices for each image, with the labels of the data set's own maps.

    Args:
        folder: output folder.
        images: folder of the images; maps are named after their paths below it.
    """

    def __init__(self, folder: str, images: str) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.images = images

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Write the maps of some images; `data_batch` is not used."""
        table = own_labels(
            len(self.dataset_meta['classes']),
            self.dataset_meta.get('label_map'),
            self.dataset_meta.get('reduce_zero_label', False),
        )
        for sample in data_samples:
            predicted = sample['pred_sem_seg']['data'][0].cpu().numpy().astype(np.int64)
            name = Path(os.path.relpath(sample['img_path'], self.images)).with_suffix('.png')
            write_bytes(self.folder / name, png(table[predicted]))
            self.results.append(str(name))

    def compute_metrics(self, results: list[str]) -> dict:
        """Return no figures."""
        print_log(f'{len(results)} maps written to {self.folder}', logger='current')
        return {}


def own_labels(classes: int, label_map: dict | None, reduce_zero_label: bool) -> np.ndarray:
    """Return the label that the data set's files use for each class of a model, (classes,).

    Args:
        classes: number of classes.
        label_map: class that mmseg assigns to each label, if only some classes are used.
        reduce_zero_label: whether label 0 in the files is not a class.
    """
    labels = np.arange(classes)
    for label, index in (label_map or {}).items():
        if 0 <= index < classes:
            labels[index] = label
    labels = labels + bool(reduce_zero_label)
    return labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)


def png(labels: np.ndarray) -> bytes:
    """Encode labels (H, W) as a grayscale PNG."""
    content = io.BytesIO()
    Image.fromarray(labels).save(content, 'PNG')
    return content.getvalue()


def leave_out_truth(cfg: Config, folder: str) -> None:
    """Prepare a test without annotations and without a result, before the data are checked.

    Args:
        cfg: the config; modified in place.
        folder: output folder of the predictions.

    Raises:
        UserError: `folder` is not writable, the model is a classifier, or data sets are joined.
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
            f'--format-only: test_dataloader.dataset of {cfg.filename} joins or repeats data sets; '
            'give a single data set'
        )
    dataset.pipeline = without_truth(dataset.pipeline)
    dataset.get('data_prefix', {}).pop('seg_map_path', None)
    if 'tta_pipeline' in cfg:
        cfg.tta_pipeline = without_truth(cfg.tta_pipeline)
    cfg.default_hooks.pop('result', None)
    cfg.test_evaluator = ConfigDict(type=MapSubmission.__name__, folder=folder)


def write_submission(cfg: Config, folder: str) -> None:
    """Write predictions instead of evaluating them; call after the data were checked."""
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
