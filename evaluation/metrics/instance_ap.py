"""COCO box and mask AP (Lin et al., arXiv 1405.0312), unrounded and per class."""

from collections.abc import Sequence

import numpy as np
from mmdet.evaluation import CocoMetric
from mmengine.logging import MMLogger
from mmengine.registry import METRICS
from pycocotools.coco import COCO

from evaluation.config.masks import kinds_of_metric
from evaluation.metrics.coco_evaluators import (
    DEFAULT_EVALUATOR,
    EVALUATORS,
    InstanceEvaluation,
    load_evaluator,
)
from evaluation.metrics.coco_matching import KINDS, to_coco
from evaluation.metrics.instance_matching import collect_instances
from evaluation.metrics.predictions import check_instances, encode_masks
from evaluation.metrics.records import MetricReport, evidence_or_none
from evaluation.utils.errors import UserError
from evaluation.utils.process_memory import garbage_collection_paused

# Names in papers and in logs of mmdet, in the order of `InstanceEvaluation.statistics`.
STATISTICS = {
    'AP': 'mAP',
    'AP50': 'mAP_50',
    'AP75': 'mAP_75',
    'APs': 'mAP_s',
    'APm': 'mAP_m',
    'APl': 'mAP_l',
}


@METRICS.register_module()
class InstanceMetric(CocoMetric):
    """mmdet's COCO metric with the settings of pycocotools and unrounded values.

    Logs the keys of mmdet (`coco/bbox_mAP`, fractions; -1 without ground truth). `report` holds the
    values in percent, with AP of each class.

    Args:
        ann_file: ground truth in COCO format. Images without predictions are ignored, so that a subset
            of a data set can be evaluated.
        evaluator: implementation, `fast` or `pycocotools`; the figures are the same.
        metric: `bbox`, or a list of `bbox` and `segm`. None evaluates boxes, and masks if the model
            predicts them.

    Raises:
        UserError: the evaluator or metric is unknown, or the evaluator's package is not installed.
    """

    def __init__(
        self,
        ann_file: str,
        evaluator: str = DEFAULT_EVALUATOR,
        metric: str | Sequence[str] | None = None,
    ) -> None:
        self._evaluate = load_evaluator(evaluator)
        self._kinds = None if metric is None else kinds_of_metric(metric)
        super().__init__(ann_file=ann_file, metric=list(KINDS))
        number_annotations(self._coco_api)
        self.evaluator = EVALUATORS[evaluator].distribution
        self.report: MetricReport | None = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Store what the evaluation needs of each image, with masks as run-length codes.

        Args:
            data_batch: unused.
            data_samples: `img_id` and `pred_instances` of each image; these hold `bboxes` (N, 4) as
                corners in pixels, `scores` (N,), `labels` (N,) and optionally `masks` (N, H, W), bool.

        Raises:
            UserError: their lengths differ, a label is not a class, or masks differ from the image size.
        """
        classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            found = sample['pred_instances']
            prediction = {name: found[name].cpu().numpy() for name in ('bboxes', 'scores', 'labels')}
            if 'masks' in found and self._kinds != ('bbox',):
                prediction['masks'] = encode_masks(found['masks'])
            prediction = {'img_id': sample['img_id'], **prediction}
            check_instances(prediction, classes, self._size_of(sample['img_id']))
            self.results.append(prediction)

    def _size_of(self, image: int | str) -> tuple[int, int] | None:
        """Return height and width of an image from the annotations; None if not recorded."""
        entry = self._coco_api.imgs.get(image, {})
        return (entry['height'], entry['width']) if {'height', 'width'} <= entry.keys() else None

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Evaluate the stored predictions of all images.

        Raises:
            UserError: masks are requested, but the model predicts none.
        """
        kinds = self._kinds_of(results)
        truth = self._coco_api
        images = sorted({prediction['img_id'] for prediction in results})
        categories = truth.get_cat_ids(cat_names=self.dataset_meta['classes'])
        self.report = MetricReport(images=len(images), evaluator=self.evaluator)
        with garbage_collection_paused():
            self.report.evidence = evidence_or_none(
                lambda: collect_instances(truth, results, categories, kinds)
            )
        logged = {}
        for kind, name in ((kind, KINDS[kind]) for kind in kinds):
            with garbage_collection_paused():
                detections = to_coco(results, categories, kind)
                evaluation = self._evaluate(truth, detections, images, categories, kind)
            summary = [f'{kind} of {len(images)} images', *evaluation.summary]
            MMLogger.get_current_instance().info('\n'.join(summary))
            for i, (statistic, log_key) in enumerate(STATISTICS.items()):
                value = float(evaluation.statistics[i])
                logged[f'{kind}_{log_key}'] = value
                self.report.metrics[f'{name}_{statistic}'] = None if value < 0 else 100 * value
            self.report.per_class[f'{name}_AP'] = per_class_ap(evaluation, truth, categories)
        return logged

    def _kinds_of(self, results: list[dict]) -> tuple[str, ...]:
        has_masks = all('masks' in prediction for prediction in results)
        if self._kinds is None:
            return tuple(KINDS) if has_masks else ('bbox',)
        if 'segm' in self._kinds and not has_masks:
            raise UserError(
                "InstanceMetric has metric 'segm', but the model predicts no masks; use 'bbox'"
            )
        return self._kinds


def number_annotations(truth: COCO) -> None:
    """Renumber annotations from 1, since pycocotools treats a match with id 0 as no match."""
    for number, annotation in enumerate(truth.dataset['annotations'], start=1):
        annotation['id'] = number
    truth.anns = {annotation['id']: annotation for annotation in truth.dataset['annotations']}


def per_class_ap(
    evaluation: InstanceEvaluation, truth: COCO, categories: Sequence[int]
) -> dict[str, float | None]:
    """Return AP of each class in percent; None for classes without objects."""
    # All areas, largest number of detections.
    precision = evaluation.precision[..., 0, -1]
    result = {}
    for i, category in enumerate(truth.loadCats(list(categories))):
        of_class = precision[:, :, i]
        valid = of_class[of_class > -1]
        result[category['name']] = 100 * float(np.mean(valid)) if valid.size else None
    return result
