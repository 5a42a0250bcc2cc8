"""Box and mask AP of COCO (Lin et al., arXiv 1405.0312), unrounded and per class."""

import contextlib
import io
from collections.abc import Sequence

import numpy as np
from mmdet.evaluation import CocoMetric
from mmengine.logging import MMLogger
from mmengine.registry import METRICS
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from evaluation.report import MetricReport

# Names in papers, in the order of COCOeval.stats, and as mmdet logs them.
STATISTICS = {
    'AP': 'mAP',
    'AP50': 'mAP_50',
    'AP75': 'mAP_75',
    'APs': 'mAP_s',
    'APm': 'mAP_m',
    'APl': 'mAP_l',
}
KINDS = {'bbox': 'box', 'segm': 'mask'}


@METRICS.register_module()
class InstanceMetric(CocoMetric):
    """mmdet's COCO metric with pycocotools' own settings and every digit.

    Logs mmdet's keys (`coco/bbox_mAP`, fractions; -1 where there is no ground truth). `report` has the
    same in percent, with AP of every class.

    Args:
        ann_file: ground truth in COCO's format. Images that were not run are left out of it, so that a
            subset of a data set can be evaluated.
    """

    def __init__(self, ann_file: str) -> None:
        super().__init__(ann_file=ann_file, metric=list(KINDS))
        self.report: MetricReport | None = None

    def compute_metrics(self, results: list[tuple[dict, dict]]) -> dict[str, float]:
        """Evaluate all predictions, a pair of (ground truth, prediction) an image."""
        truth = self._coco_api
        images = sorted({ground_truth['img_id'] for ground_truth, _ in results})
        categories = truth.get_cat_ids(cat_names=self.dataset_meta['classes'])
        predictions = [prediction for _, prediction in results]
        self.report = MetricReport(images=len(images))
        logged = {}
        for kind, name in KINDS.items():
            detections = to_coco(predictions, categories, kind)
            evaluation = evaluate(truth, detections, images, categories, kind)
            for i, (statistic, log_key) in enumerate(STATISTICS.items()):
                value = float(evaluation.stats[i])
                logged[f'{kind}_{log_key}'] = value
                self.report.metrics[f'{name}_{statistic}'] = None if value < 0 else 100 * value
            self.report.per_class[f'{name}_AP'] = per_class_ap(evaluation, truth, categories)
        return logged


def to_coco(predictions: Sequence[dict], categories: Sequence[int], kind: str) -> list[dict]:
    """Predictions in COCO's results format.

    Args:
        predictions: of each image `img_id`, `bboxes` (N, 4) as corners in pixels, `scores` (N,),
            `labels` (N,) and run-length encoded `masks`.
        categories: category id of each label.
        kind: `bbox` or `segm`; masks come without boxes, so that their area is the mask's own.
    """
    detections = []
    for prediction in predictions:
        for i, label in enumerate(prediction['labels']):
            detection = {
                'image_id': prediction['img_id'],
                'category_id': categories[label],
                'score': float(prediction['scores'][i]),
            }
            if kind == 'bbox':
                left, top, right, bottom = map(float, prediction['bboxes'][i])
                detection['bbox'] = [left, top, right - left, bottom - top]
            else:
                detection['segmentation'] = prediction['masks'][i]
            detections.append(detection)
    return detections


def evaluate(
    truth: COCO, detections: list[dict], images: list[int], categories: list[int], kind: str
) -> COCOeval:
    """Run pycocotools on the given images and categories; its summary goes to the log."""
    summary = io.StringIO()
    with contextlib.redirect_stdout(summary):
        found = truth.loadRes(detections) if detections else no_detections(truth)
        evaluation = COCOeval(truth, found, kind)
        evaluation.params.imgIds = images
        evaluation.params.catIds = categories
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    lines = [line for line in summary.getvalue().splitlines() if ' = ' in line]
    MMLogger.get_current_instance().info('\n'.join([f'{kind} of {len(images)} images', *lines]))
    return evaluation


def no_detections(truth: COCO) -> COCO:
    """A result without a single detection, which `COCO.loadRes` does not accept."""
    empty = COCO()
    empty.dataset = {**truth.dataset, 'annotations': []}
    empty.createIndex()
    return empty


def per_class_ap(
    evaluation: COCOeval, truth: COCO, categories: Sequence[int]
) -> dict[str, float | None]:
    """AP of each class in percent, None where the images have none of it."""
    # (IoU thresholds, recalls, categories, areas, most detections), -1 where undefined.
    precision = evaluation.eval['precision'][:, :, :, 0, -1]
    result = {}
    for i, category in enumerate(truth.loadCats(list(categories))):
        of_class = precision[:, :, i]
        valid = of_class[of_class > -1]
        result[category['name']] = 100 * float(np.mean(valid)) if valid.size else None
    return result
