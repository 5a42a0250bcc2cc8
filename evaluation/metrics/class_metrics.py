"""Metrics of classes, unrounded: accuracy of classifiers, IoU and accuracy of segmentors."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.registry import METRICS
from torch import Tensor

from evaluation.metrics.class_records import GUESSES, collect_confusion, collect_guesses
from evaluation.metrics.pixel_confidence import IGNORED, confidence_histogram
from evaluation.metrics.predictions import check_maps, check_scores
from evaluation.metrics.records import MetricReport, evidence_or_none, image_names
from evaluation.utils.formats import fixed


@METRICS.register_module()
class AccuracyMetric(BaseMetric):
    """Share of images whose label has the highest score, `top1`, or one of the five highest, `top5`.

    Values are in percent. `report` also holds `top1` of each class; None for a class without images.
    """

    def __init__(self) -> None:
        super().__init__()
        self.report: MetricReport | None = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Record the label and the rank of its score.

        Args:
            data_batch: unused.
            data_samples: `gt_label` (), `pred_scores` (classes,) and `img_path` of each image.

        Raises:
            UserError: a class has no score, or a label is not a class.
        """
        classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            label, scores = int(sample['gt_label']), sample['pred_scores']
            check_scores(scores, label, classes, sample.get('img_path'))
            guesses = scores.topk(min(GUESSES, len(scores))).indices.tolist()
            place = guesses.index(label) if label in guesses else GUESSES
            guess = (label, guesses[0], place)
            self.results.append((sample.get('img_path'), guess, float(scores[guesses[0]])))

    def compute_metrics(
        self, results: list[tuple[str | None, tuple[int, ...], float]]
    ) -> dict[str, float]:
        """Evaluate path, (label, predicted class, rank of the label from 0) and confidence of images."""
        paths, guesses, confidences = zip(*results, strict=True)
        labels, _, places = torch.tensor(guesses).unbind(1)
        first = places == 0
        metrics = {
            'top1': 100 * first.double().mean().item(),
            'top5': 100 * (places < GUESSES).double().mean().item(),
        }
        classes = self.dataset_meta['classes']
        count = torch.bincount(labels, minlength=len(classes))
        right = torch.bincount(labels[first], minlength=len(classes))
        self.report = MetricReport(
            images=len(results),
            metrics=dict(metrics),
            per_class={
                'top1': {
                    name: 100 * r / n if n else None
                    for name, r, n in zip(classes, right.tolist(), count.tolist(), strict=True)
                }
            },
            evidence=evidence_or_none(
                lambda: collect_guesses(image_names(paths), guesses, classes, confidences)
            ),
        )
        line = '  '.join(f'{name} {fixed(value, 2)}' for name, value in metrics.items())
        MMLogger.get_current_instance().info(f'{len(results)} images: {line}')
        return metrics


@METRICS.register_module()
class SegmentationMetric(BaseMetric):
    """IoU and accuracy, computed from integer pixel counts and unrounded.

    Logs `mIoU`, `mAcc` and `aAcc` in percent; `report` also holds the values of each class. Means omit
    classes that occur neither in labels nor in predictions. Pixels with label 255 are ignored.
    """

    def __init__(self) -> None:
        super().__init__()
        self.report: MetricReport | None = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the pixels of each image.

        Args:
            data_batch: unused.
            data_samples: predicted classes `pred_sem_seg.data` and labels `gt_sem_seg.data`, both
                (1, H, W), `img_path` of each image, and optionally `seg_logits.data`, (classes, H, W).

        Raises:
            UserError: a prediction and its label differ in shape.
        """
        classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            predicted, label = (sample[name]['data'] for name in ('pred_sem_seg', 'gt_sem_seg'))
            check_maps(predicted, label, sample.get('img_path'))
            pairs = count_pairs(predicted, label.to(predicted.device), classes)
            scores = sample.get('seg_logits', {}).get('data')
            histogram = None
            # Models that merge several views return no scores.
            if scores is not None and scores.shape[1:] == predicted.shape[1:]:
                histogram = confidence_histogram(scores, predicted, label, classes)
            self.results.append((sample.get('img_path'), pairs, histogram))

    def compute_metrics(
        self, results: list[tuple[str | None, np.ndarray, np.ndarray | None]]
    ) -> dict[str, float]:
        """Evaluate path, pixel counts, (N, 3), and confidence histogram, (BINS, 3) or None, of images.

        See `count_pairs` and `confidence_histogram`.
        """
        classes = self.dataset_meta['classes']
        paths, pairs, histograms = zip(*results, strict=True)
        intersection, union, _, label = areas_of(np.concatenate(pairs), len(classes)).double()
        iou = 100 * intersection / union
        accuracy = 100 * intersection / label
        metrics = {
            'mIoU': iou.nanmean().item(),
            'mAcc': accuracy.nanmean().item(),
            'aAcc': (100 * intersection.sum() / label.sum()).item(),
        }
        self.report = MetricReport(
            images=len(results),
            metrics={name: None if value != value else value for name, value in metrics.items()},
            per_class={'IoU': _by_class(classes, iou), 'Acc': _by_class(classes, accuracy)},
            evidence=evidence_or_none(
                lambda: collect_confusion(image_names(paths), pairs, classes, histograms)
            ),
        )
        line = '  '.join(f'{name} {fixed(value, 2)}' for name, value in metrics.items())
        MMLogger.get_current_instance().info(f'{len(results)} images: {line}')
        return metrics


def count_pairs(predicted: Tensor, label: Tensor, classes: int) -> np.ndarray:
    """Count the pixels of each pair of true and predicted class, ignoring label 255.

    A single histogram over pairs has many bins. On a GPU, neighboring pixels of the same class then
    contend less for the same bin than in a histogram over classes.

    Args:
        predicted: class of each pixel, any shape.
        label: true class of each pixel, 0 to 255, same shape.
        classes: number of classes, C. Any other label or prediction counts as class C.

    Returns:
        True class, predicted class and number of pixels, (N, 3), int64; zero counts are omitted.

    Raises:
        UserError: the shapes differ.
    """
    check_maps(predicted, label, image=None)
    columns = classes + 1
    pairs = label.int() * columns
    # Maps from thresholding are floating point.
    found = predicted.int()
    pairs += torch.where(found < 0, classes, found.clamp(max=classes))
    counts = torch.bincount(pairs.flatten(), minlength=(IGNORED + 1) * columns)
    confusion = counts.view(IGNORED + 1, columns)[:IGNORED]
    others = confusion[classes:].sum(0, keepdim=True)
    confusion = torch.cat([confusion[:classes], others])
    places = confusion.nonzero()
    return torch.cat([places, confusion[places[:, 0], places[:, 1], None]], dim=1).cpu().numpy()


def areas_of(pairs: np.ndarray, classes: int) -> Tensor:
    """Return intersection, union, predicted and labeled area of each class, (4, classes), int64.

    Args:
        pairs: (N, 3), pixel counts of one or more images, from `count_pairs`.
        classes: number of classes, C; pixels of class C never match.
    """
    # Double precision is exact up to 2 ** 53 pixels.
    confusion = np.bincount(
        pairs[:, 0] * (classes + 1) + pairs[:, 1], weights=pairs[:, 2], minlength=(classes + 1) ** 2
    ).reshape(classes + 1, classes + 1)
    intersection = confusion[:classes, :classes].diagonal()
    labeled, found = confusion.sum(1)[:classes], confusion.sum(0)[:classes]
    areas = np.stack([intersection, labeled + found - intersection, found, labeled])
    return torch.from_numpy(areas.astype(np.int64))


def count_areas(predicted: Tensor, label: Tensor, classes: int) -> Tensor:
    """Return the areas of each class in an image, (4, classes); see `areas_of` and `count_pairs`."""
    return areas_of(count_pairs(predicted, label, classes), classes)


def _by_class(classes: list[str], values: Tensor) -> dict[str, float | None]:
    return {
        name: None if value != value else value
        for name, value in zip(classes, values.tolist(), strict=True)
    }
