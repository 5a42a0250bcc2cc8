"""Mean IoU, mean accuracy and pixel accuracy, unrounded and per class."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.registry import METRICS
from torch import Tensor

from evaluation.report import MetricReport

IGNORED = 255


@METRICS.register_module()
class SegmentationMetric(BaseMetric):
    """IoU and accuracy from areas that are counted in whole numbers, every digit kept.

    Logs `mIoU`, `mAcc` and `aAcc` in percent; `report` has them and those of every class. A class that
    neither the truth nor any prediction has is left out of the means. Pixels of label 255 are ignored.
    """

    def __init__(self) -> None:
        super().__init__()
        self.report: MetricReport | None = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the areas of each image.

        Args:
            data_batch: not used.
            data_samples: of each image the predicted classes `pred_sem_seg.data` and the labels
                `gt_sem_seg.data`, both (1, H, W).
        """
        classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            predicted, label = (sample[name]['data'] for name in ('pred_sem_seg', 'gt_sem_seg'))
            self.results.append(count_areas(predicted, label.to(predicted.device), classes))

    def compute_metrics(self, results: list[tuple[Tensor, ...]]) -> dict[str, float]:
        """Evaluate areas (intersection, union, prediction, label), each (classes,), an image."""
        # Single precision counts exactly only up to 2 ** 24 pixels.
        areas = (torch.stack(column).double().sum(0) for column in zip(*results, strict=True))
        intersection, union, _, label = areas
        iou = 100 * intersection / union
        accuracy = 100 * intersection / label
        metrics = {
            'mIoU': iou.nanmean().item(),
            'mAcc': accuracy.nanmean().item(),
            'aAcc': (100 * intersection.sum() / label.sum()).item(),
        }
        classes = self.dataset_meta['classes']
        self.report = MetricReport(
            images=len(results),
            metrics={name: None if value != value else value for name, value in metrics.items()},
            per_class={'IoU': _by_class(classes, iou), 'Acc': _by_class(classes, accuracy)},
        )
        line = '  '.join(f'{name} {value:.2f}' for name, value in metrics.items())
        MMLogger.get_current_instance().info(f'{len(results)} images: {line}')
        return metrics


def count_areas(predicted: Tensor, label: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels of each class, those with label 255 left out.

    One histogram of pairs counts all: its bins are many, so that pixels that lie side by side and are
    alike do not wait for one another as they would at the bin of their class.

    Args:
        predicted: class of each pixel, from 0; any shape.
        label: true class of each pixel, 0 to 255; the same shape.
        classes: how many there are. Others, of labels or predictions, agree with nothing.

    Returns:
        Intersection, union, prediction and label, each (classes,), int64, on the CPU.
    """
    columns = classes + 1
    pairs = label.int() * columns
    pairs += predicted.clamp(max=classes)
    counts = torch.bincount(pairs.flatten(), minlength=(IGNORED + 1) * columns)
    confusion = counts.view(IGNORED + 1, columns)[:IGNORED]
    intersection = confusion[:classes, :classes].diagonal()
    labelled, found = confusion.sum(1)[:classes], confusion.sum(0)[:classes]
    areas = torch.stack([intersection, labelled + found - intersection, found, labelled])
    return tuple(areas.cpu().unbind())


def _by_class(classes: list[str], values: Tensor) -> dict[str, float | None]:
    return {
        name: None if value != value else value
        for name, value in zip(classes, values.tolist(), strict=True)
    }
