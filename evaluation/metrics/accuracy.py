"""Top-1 and top-5 accuracy, unrounded and per class."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.registry import METRICS

from evaluation.metrics.class_records import GUESSES, collect_guesses
from evaluation.metrics.predictions import check_scores
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
            self.results.append((sample.get('img_path'), (label, guesses[0], place)))

    def compute_metrics(self, results: list[tuple[str | None, tuple[int, ...]]]) -> dict[str, float]:
        """Evaluate the path of each image, its label, predicted class, and rank of the label from 0."""
        paths, guesses = zip(*results, strict=True)
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
            evidence=evidence_or_none(lambda: collect_guesses(image_names(paths), guesses, classes)),
        )
        line = '  '.join(f'{name} {fixed(value, 2)}' for name, value in metrics.items())
        MMLogger.get_current_instance().info(f'{len(results)} images: {line}')
        return metrics
