"""Mean IoU, mean accuracy and pixel accuracy, unrounded and per class."""

import torch
from mmengine.logging import MMLogger
from mmengine.registry import METRICS
from mmseg.evaluation import IoUMetric
from torch import Tensor

from evaluation.report import MetricReport


@METRICS.register_module()
class SegmentationMetric(IoUMetric):
    """mmseg's metric with areas summed exactly and every digit kept.

    Logs `mIoU`, `mAcc` and `aAcc` in percent; `report` has them and those of every class. A class that
    neither the truth nor any prediction has is left out of the means.
    """

    def __init__(self) -> None:
        super().__init__()
        self.report: MetricReport | None = None

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


def _by_class(classes: list[str], values: Tensor) -> dict[str, float | None]:
    return {
        name: None if value != value else value
        for name, value in zip(classes, values.tolist(), strict=True)
    }
